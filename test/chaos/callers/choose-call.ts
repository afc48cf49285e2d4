import { bindCall } from "../../model/bind.ts";
import type { Bound, CallSpec } from "../../model/commands.ts";
import type { Call } from "../../model/decide.ts";
import { templates } from "../../model/templates.ts";
import type { Random } from "./random.ts";
import type { View } from "./view.ts";

const pickCount = 12;

/** What callers ask for, and how often; the rest as in `templates`. The shop is the harness' own, so nobody creates it. */
const weights: ReadonlyMap<string, number> = new Map(
  Object.entries({
    ...Object.fromEntries(Object.entries(templates).map(([rpc, { weight }]) => [rpc, weight])),
    CreateShop: 0,
    GetStock: 6,
    GetOrder: 4,
    GetUser: 4,
    GetShopStats: 2,
  }),
);
const weightSum = [...weights.values()].reduce((sum, weight) => sum + weight, 0);

function chooseRpc(random: Random): string {
  let left = random.next() * weightSum;
  for (const [rpc, weight] of weights) {
    left -= weight;
    if (left < 0) return rpc;
  }
  return "GetStock";
}

/** The next call of a caller. Two calls: the second is the same again, for somebody else to send meanwhile. */
export function chooseCalls(random: Random, view: View): readonly Call[] {
  for (;;) {
    const calls = bindCall(chooseSpec(random), view);
    if (calls.length > 0) return calls.map((call) => shorten(random, call));
  }
}

function chooseSpec(random: Random): CallSpec {
  const pick = (): number => random.below(10_000);
  const bind: Bound = random.chance(7)
    ? { kind: "again", pick: pick(), isNewId: random.chance(50), change: random.chance(60) ? undefined : pick() }
    : {
        kind: "fresh",
        rpc: chooseRpc(random),
        picks: Array.from({ length: pickCount }, pick),
        bad: random.chance(1) ? pick() : undefined,
      };
  return {
    bind,
    door: random.chance(50) ? "grpc" : "http",
    id: random.from(["new", "new", "new", "new", "new", "new", "header", random.chance(15) ? "stolen" : "new"]),
    twice: random.chance(5),
    toNobody: false,
  };
}

/** Holds that end while the callers look on. */
function shorten(random: Random, call: Call): Call {
  const isHold = call.rpc === "HoldStock" && call.badField === undefined;
  if (!isHold || random.chance(50)) return call;
  return { ...call, request: { ...call.request, hold_duration: Math.round(random.between(50, 3000)) } };
}
