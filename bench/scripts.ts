import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Redis } from "ioredis";
import { startPrivateRedis } from "../src/dev/private-redis.ts";
import { makeId } from "../src/shop/ids.ts";
import { shopKeys } from "../src/shop/keys.ts";
import { entryFields } from "../src/shop/log-entry.ts";
import { connectRedis, type ScriptRunner } from "../src/shop/redis.ts";
import { loadScripts, type Script, type Scripts } from "../src/shop/scripts.ts";

const usage = `usage: npm run bench:scripts [-- --rounds N] [-- --calls N] [-- --only TEXT]

Tells what each script costs inside Redis: CPU time per call as Redis counts it (INFO commandstats), on a private Redis,
in interleaved rounds; the table shows the median and the spread of the rounds. Every call has to succeed.
`;

/** A call whose cost is measured; `args` gives the arguments of call number `index` by the names in the script's header. */
interface Case {
  readonly title: string;
  readonly script: keyof Scripts;
  readonly args: (index: number) => Readonly<Record<string, string | number>>;
  readonly tail?: (index: number) => readonly (string | number)[];
  /** Runs before a round, so that each of its calls finds what it needs. */
  readonly prepare?: (bench: Bench, from: number, count: number) => Promise<void>;
}

const keys = shopKeys("bench");
const userCount = 1000;
const user = (index: number): string => `user-${index % userCount}`;
const wallet = 1;
const external = 2;
const line = ["ps5", 1, ""] as const;

const placePending = (bench: Bench, from: number, count: number): Promise<void> =>
  bench.run(
    "placeOrder",
    from,
    count,
    (index) => ({ ...order(index, external), order_id: `e${index}` }),
    () => line,
  );

const cases: readonly Case[] = [
  { title: "PlaceOrder, 1 line, WALLET", script: "placeOrder", args: (i) => order(i, wallet), tail: () => line },
  {
    title: "PlaceOrder, 10 lines, WALLET",
    script: "placeOrder",
    args: (i) => order(i, wallet),
    tail: () => Array.from({ length: 10 }, (_, each) => [`sku-${each}`, 1, ""]).flat(),
  },
  { title: "PlaceOrder, 1 line, EXTERNAL", script: "placeOrder", args: (i) => order(i, external), tail: () => line },
  {
    title: "PlaceOrder, from a hold",
    script: "placeOrder",
    args: (i) => ({ ...order(i, wallet), hold_id: `h${i}` }),
    prepare: (bench, from, count) =>
      bench.run(
        "holdStock",
        from,
        count,
        (i) => hold(i),
        () => line,
      ),
  },
  { title: "HoldStock, 1 line", script: "holdStock", args: (i) => hold(i), tail: () => line },
  {
    title: "ReleaseHold",
    script: "releaseHold",
    args: (i) => ({ hold_id: `h${i}` }),
    prepare: (bench, from, count) =>
      bench.run(
        "holdStock",
        from,
        count,
        (i) => hold(i),
        () => line,
      ),
  },
  { title: "ConfirmOrder", script: "confirmOrder", args: (i) => ({ order_id: `e${i}` }), prepare: placePending },
  { title: "CancelOrder", script: "cancelOrder", args: (i) => ({ order_id: `e${i}` }), prepare: placePending },
  { title: "CreateUser", script: "createUser", args: (i) => ({ user_id: `n${i}`, own_referral_code: `code-n${i}` }) },
  {
    title: "CreateUser, with referral",
    script: "createUser",
    args: (i) => ({ user_id: `n${i}`, own_referral_code: `code-n${i}`, referral_code: `code-${user(i)}` }),
  },
  { title: "DepositFunds", script: "depositFunds", args: (i) => ({ user_id: user(i), amount_minor: 1 }) },
  { title: "WithdrawFunds", script: "withdrawFunds", args: (i) => ({ user_id: user(i), amount_minor: 1 }) },
  { title: "GrantCredits", script: "grantCredits", args: (i) => ({ user_id: user(i), granted_credits: 1 }) },
  {
    title: "ChangeTier",
    script: "changeTier",
    args: (i) => ({
      user_id: user(i),
      tier: otherTier(user(i)),
      proration: 1,
      timing: 1,
    }),
  },
  { title: "AdjustStock", script: "adjustStock", args: () => ({ sku: "ps5", delta_count: 1 }) },
  { title: "GetStock", script: "getStock", args: () => ({}), tail: () => ["ps5"] },
];

function order(index: number, payment: number): Record<string, string | number> {
  return { order_id: `o${index}`, user_id: user(index), payment_method: payment };
}

const onEnterprise = new Set<string>();

/** A tier that the user is not on: the one or the other in turn. */
function otherTier(userId: string): string {
  if (onEnterprise.delete(userId)) return "pro";
  onEnterprise.add(userId);
  return "enterprise";
}

function hold(index: number): Record<string, string | number> {
  return { hold_id: `h${index}`, user_id: user(index) };
}

/** What an argument is when a case does not say. */
const quiet: Readonly<Record<string, string | number>> = {
  oldest_id_ms: 0,
  looked_up: 0,
  memory_count: 1_000_000,
  clock_ms: "",
  hold_id: "",
  hold_ms: 600_000,
  pending_ms: 600_000,
  as_of_position: 0,
  record: "",
  reason: 1,
  by_worker: 0,
  charge_id: "",
  expected_available_count: "",
  title_json: '"Console"',
  price_minor: "",
  max_per_user: "",
  sale_start_ms: "",
  sale_end_ms: "",
  withdrawn: "",
  email_key: "",
  private_json: '{"email":"","email_key":"","display_name":""}',
  referral_code: "",
  require_referral: 0,
};

/** The argument of a name that nobody gave: free texts are short ones, everything else is left out. */
function quietValue(name: string): string | number {
  return quiet[name] ?? (name.endsWith("_json") ? '"text"' : "");
}

/** One shop in a private Redis. */
class Bench {
  readonly scripts = loadScripts();
  readonly #runner: ScriptRunner;

  constructor(runner: ScriptRunner) {
    this.#runner = runner;
  }

  /** Makes the shop, its products and its users. */
  async open(): Promise<void> {
    const commitId = makeId();
    const fields = entryFields({
      position: 1,
      commitId,
      epoch: 1,
      timeMs: Date.now(),
      call: "{}",
      events: '[{"shop_created":{}}]',
      private: "",
    });
    const steps: [keyof Scripts, (string | number)[]][] = [
      ["look", [1, commitId, "token", 0, "0"]],
      ["load", ["token", 0, "clear", "0"]],
      ["load", ["token", 1, "tiers", "free:terms", "0 3 1024 1000", "pro:terms", "2900 100 102400 100000"]],
      ["load", ["token", 2, "tiers", "enterprise:terms", "9900 999 1048576 999999999"]],
      ["load", ["token", 3, "log", 1, fields.length, ...fields]],
      ["load", ["token", 4, "head", 1, commitId, Date.now(), 0]],
      ["finish", ["token", 1]],
    ];
    for (const [name, values] of steps) {
      await this.#runner.run(this.scripts[name], keys, values);
    }
    // Redis searches a hash of up to 128 fields from its start: `stock` is past that with 22 products, as in most shops.
    const skus = ["ps5", ...Array.from({ length: 100 }, (_, index) => `sku-${index}`)];
    const stock = 1_000_000_000;
    await this.run("putProduct", 0, skus.length, (index) => ({ sku: skus[index] as string, price_minor: 100 }));
    await this.run("adjustStock", 0, skus.length, (index) => ({ sku: skus[index] as string, delta_count: stock }));
    await this.run("createUser", 0, userCount, (index) => ({
      user_id: user(index),
      own_referral_code: `code-${user(index)}`,
    }));
    await this.run("depositFunds", 0, userCount, (index) => ({ user_id: user(index), amount_minor: 1e12 }));
    await this.run("grantCredits", 0, userCount, (index) => ({ user_id: user(index), granted_credits: 1e12 }));
  }

  /** Runs a script `count` times, in batches that Redis gets at once. Throws unless every call succeeds. */
  async run(
    name: keyof Scripts,
    from: number,
    count: number,
    args: Case["args"],
    tail: NonNullable<Case["tail"]> = () => [],
  ): Promise<void> {
    const script = this.scripts[name];
    for (let start = from; start < from + count; start += 200) {
      const batch = Array.from({ length: Math.min(200, from + count - start) }, (_, each) => {
        const values = { epoch: 1, commit_id: makeId(), request_id: makeId(), ...args(start + each) };
        return this.#runner.run(script, keys, [...valuesOf(script, values), ...tail(start + each)]);
      });
      for (const reply of (await Promise.all(batch)) as [string, ...unknown[]][]) {
        if (reply[0] !== "OK") {
          throw new Error(`${name} answered ${JSON.stringify(reply).slice(0, 300)}`);
        }
      }
    }
  }

  /** The CPU time of one call in microseconds, as Redis counted it over a round. */
  async measure({ script, args, tail, prepare }: Case, from: number, count: number): Promise<number> {
    await prepare?.(this, from, count);
    const connection = this.#runner.connections[0] as Redis;
    // The log of a running shop is trimmed to its margin.
    await connection.xtrim(keys.log as string, "MAXLEN", 10_000);
    await connection.call("CONFIG", "RESETSTAT");
    await this.run(script, from, count, args, tail);
    const stats = await connection.info("commandstats");
    const [, calls, usec] = /cmdstat_fcall:calls=(\d+),usec=(\d+)/.exec(stats) ?? [];
    if (Number(calls) !== count) {
      throw new Error(`Redis counted ${calls} calls of ${script}, ${count} were made`);
    }
    return Number(usec) / count;
  }
}

function valuesOf(script: Script, given: Readonly<Record<string, string | number>>): (string | number)[] {
  const unknown = Object.keys(given).filter((name) => !script.argumentNames.includes(name) && !(name in common));
  if (unknown.length > 0) {
    throw new Error(`${script.name} has no argument ${unknown.join(", ")}`);
  }
  const call = JSON.stringify({
    rpc: script.name,
    request_id: given.request_id,
    principal: "",
    request: { user_id: "user-1", lines: [{ sku: "ps5", quantity: 1 }], payment_method: 1 },
  });
  return script.argumentNames.map((name) => (name === "call" ? call : (given[name] ?? quietValue(name))));
}

/** Arguments that every run brings although a script that reads lacks them. */
const common = { epoch: true, commit_id: true, request_id: true };

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] as number;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string" },
      calls: { type: "string" },
      only: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    process.stdout.write(usage);
    return;
  }
  const roundCount = Number(values.rounds ?? 7);
  const callCount = Number(values.calls ?? 3000);
  await using cleanUp = new AsyncDisposableStack();
  const dataDir = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
  await chmod(dataDir, 0o711);
  cleanUp.defer(() => rm(dataDir, { recursive: true, force: true }));
  const redis = await startPrivateRedis({ dataDir, persist: false });
  cleanUp.defer(() => redis.stop());
  const runner = await connectRedis({
    url: redis.url,
    commandTimeoutMs: 30_000,
    onError: (error) => console.error(error),
  });
  cleanUp.defer(() => runner.close());
  const bench = new Bench(runner);
  await bench.open();
  const chosen = cases.filter(({ title }) => title.includes(values.only ?? ""));
  const costs = chosen.map((): number[] => []);
  let from = 1_000_000;
  for (let round = -1; round < roundCount; round += 1) {
    for (const [index, each] of chosen.entries()) {
      const cost = await bench.measure(each, from, callCount);
      from += callCount;
      if (round >= 0) {
        costs[index]?.push(cost); // the first round warms up
      }
    }
  }
  const rows = chosen.map(({ title }, index) => {
    const each = costs[index] as number[];
    return `| ${title} | ${median(each).toFixed(1)} | ${Math.min(...each).toFixed(1)} to ${Math.max(...each).toFixed(1)} |`;
  });
  const header = ["| script | us per call | spread |", "|---|---:|---|"];
  process.stdout.write(`${[...header, ...rows].join("\n")}\n\n${roundCount} rounds of ${callCount} calls each.\n`);
}

await main();
