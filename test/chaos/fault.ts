import type { Random } from "./callers/random.ts";
import type { World } from "./world.ts";

/** What a fault lays hands on. Two faults of a round never share one. */
export type Resource = "server" | "redis" | "redis network" | "postgres" | "postgres network" | "shop";

/** When a fault happens, and to what. */
export interface FaultContext<Kind extends World> {
  readonly world: Kind;
  readonly shopId: string;
  readonly random: Random;
}

/** Something that goes wrong in a round, under load. */
export interface Fault<Kind extends World = World> {
  readonly name: string;
  readonly uses: readonly Resource[];
  /** How often it is drawn, relative to others. */
  readonly weight: number;
  /** Names of faults that may not come with it, because both together can lose a commit from both stores. */
  readonly without?: readonly string[];
  /** For a while two masters may take the same shop. */
  readonly forks?: boolean;
  /** Before the callers begin. */
  readonly prepare?: (context: FaultContext<Kind>) => Promise<void>;
  /** Does it, and takes back what does not mend itself. */
  readonly run: (context: FaultContext<Kind>) => Promise<void>;
}

/** Draws one to three faults that go together. */
export function drawFaults<Kind extends World>(faults: readonly Fault<Kind>[], random: Random): readonly Fault<Kind>[] {
  const wanted = random.from([1, 1, 2, 2, 3]);
  const drawn: Fault<Kind>[] = [];
  for (let attempt = 0; drawn.length < wanted && attempt < 20; attempt += 1) {
    const next = drawOne(faults, random);
    if (drawn.every((each) => goTogether(each, next))) drawn.push(next);
  }
  return drawn;
}

function drawOne<Kind extends World>(faults: readonly Fault<Kind>[], random: Random): Fault<Kind> {
  const total = faults.reduce((sum, { weight }) => sum + weight, 0);
  let left = random.next() * total;
  for (const fault of faults) {
    left -= fault.weight;
    if (left < 0) return fault;
  }
  return faults[0] as Fault<Kind>;
}

function goTogether<Kind extends World>(one: Fault<Kind>, other: Fault<Kind>): boolean {
  return (
    !one.uses.some((each) => other.uses.includes(each)) &&
    one.without?.includes(other.name) !== true &&
    other.without?.includes(one.name) !== true
  );
}
