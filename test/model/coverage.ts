import { existsSync, globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ErrorReasonSchema } from "../../gen/holdfast/v1/error_reason_pb.js";
import { methods } from "./decide.ts";

/** What a run reached, by real answers. */
export class Coverage {
  readonly rpcs = new Map<string, { answered: number; refused: number }>();
  readonly reasons = new Map<string, number>();

  answered(rpc: string): void {
    this.#of(rpc).answered += 1;
  }

  refused(rpc: string, reason: string): void {
    this.#of(rpc).refused += 1;
    this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1);
  }

  #of(rpc: string): { answered: number; refused: number } {
    const known = this.rpcs.get(rpc) ?? { answered: 0, refused: 0 };
    this.rpcs.set(rpc, known);
    return known;
  }
}

/** Every reason of the contract, without prefix. */
export const reasons: readonly string[] = ErrorReasonSchema.values
  .map(({ name }) => name.replace(/^ERROR_REASON_/, ""))
  .filter((name) => name !== "UNSPECIFIED");

/** What a run of the model cannot reach, because it takes credentials, stores that fail or load, and the test that does. */
const outside: Readonly<Record<string, string>> = {
  UNAUTHENTICATED: "test/server/access.test.ts",
  PERMISSION_DENIED: "test/server/access.test.ts",
  RATE_LIMITED: "test/server/rate-limits.test.ts",
  OVERLOADED: "test/shop/durability-redis.test.ts",
  SHOP_UNAVAILABLE: "test/services/availability.test.ts",
  SHOP_FENCED: "test/services/availability.test.ts",
};

/** Reasons that no code of this version gives: the log is never cut. */
const notGiven: ReadonlySet<string> = new Set(["POSITION_TRIMMED"]);

/** The one file that has to name every reason: it has their statuses. */
const statusFile = "src/server/errors.ts";

const projectFolder = fileURLToPath(new URL("../..", import.meta.url));

/** What the contract has and neither a run nor the listed tests reached, in words; empty = nothing. */
export function uncovered(coverage: Coverage): string[] {
  const rpcs = [...methods.keys()].filter((rpc) => (coverage.rpcs.get(rpc)?.answered ?? 0) === 0 && !isListed(rpc));
  const missed = reasons.filter((reason) => !coverage.reasons.has(reason) && !isListed(reason));
  return [...rpcs.map((rpc) => `${rpc} was never answered`), ...missed.map((reason) => `nobody was refused ${reason}`)];
}

/** Entries of the two tables above that say nothing true, in words; empty = all are right. */
export function wrongEntries(): string[] {
  const given = sourceFiles().flatMap((path) => {
    const text = readFileSync(path, "utf8");
    return [...notGiven]
      .filter((reason) => text.includes(reason))
      .map((reason) => `${path} gives ${reason}: a test has to`);
  });
  return [...given, ...wrongOutside()];
}

/** Everything that can refuse a call; a client only knows the reasons. */
function sourceFiles(): string[] {
  const files = ["src", "lua"].flatMap((folder) => globSync(`${folder}/**/*.{ts,lua}`, { cwd: projectFolder }));
  return files
    .filter((file) => file !== statusFile && !file.startsWith("src/client/"))
    .map((file) => `${projectFolder}${file}`);
}

function wrongOutside(): string[] {
  return Object.entries(outside).flatMap(([name, file]) => {
    if (!methods.has(name) && !reasons.includes(name)) return [`${name} is neither an RPC nor a reason`];
    const path = `${projectFolder}${file}`;
    if (!existsSync(path)) return [`${file}, for ${name}, does not exist`];
    return readFileSync(path, "utf8").includes(name) ? [] : [`${file} says nothing of ${name}`];
  });
}

function isListed(name: string): boolean {
  return name in outside || notGiven.has(name);
}

/** What was reached, as a table. */
export function renderCoverage(coverage: Coverage): string {
  const rpcs = [...methods.keys()].map((rpc) => {
    const { answered = 0, refused = 0 } = coverage.rpcs.get(rpc) ?? {};
    return `  ${rpc.padEnd(24)} ${String(answered).padStart(8)} answered ${String(refused).padStart(8)} refused`;
  });
  const counts = reasons.map((reason) => {
    const count = coverage.reasons.get(reason) ?? 0;
    const where = count > 0 || !isListed(reason) ? "" : (outside[reason] ?? "given by no code of this version");
    return `  ${reason.padEnd(24)} ${String(count).padStart(8)} ${where}`.trimEnd();
  });
  return [...rpcs, ...counts].join("\n");
}
