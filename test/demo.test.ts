import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadConfig } from "../src/config.ts";
import { agrees, auditApi, auditStores, type Check, type Witnesses } from "../src/demo/audit.ts";
import { summariseLatencies } from "../src/demo/latencies.ts";
import { countMembers, expect as expectSale, memberOf, parsePlan, priceMinor } from "../src/demo/plan.ts";
import type { ApiRecords } from "../src/demo/read-api.ts";
import type { StoreRecords } from "../src/demo/read-stores.ts";
import { runDemo } from "../src/demo/run-demo.ts";
import { startServer } from "../src/serve.ts";
import { createDatabase, startRedis, type TestDatabase } from "./helpers/servers.ts";

const plan = { buyerCount: 5, stockCount: 2, target: undefined };
const { depositedMinor } = expectSale(plan);
const walletsMinor = depositedMinor - 2 * priceMinor;

const witnesses: Witnesses = {
  plan,
  result: {
    orders: ["first", "second"].map((orderId, index) => ({
      orderId,
      unitCount: 1,
      chargedMinor: priceMinor,
      position: 14 + index,
    })),
    refusals: new Map([["SOLD_OUT", 3]]),
    unknownCount: 0,
    impatientCount: 1,
    contradictedCount: 0,
    repeatedCount: 0,
    answerCount: 6,
    durationMs: 10,
    latenciesMs: [1, 2, 3, 4, 5, 6],
  },
  watcher: { orderCount: 2, unitCount: 2, disorderCount: 0 },
};

const storeRecords: StoreRecords = {
  postgres: {
    orderIds: ["second", "first"],
    orderedUnits: 2,
    availableCount: 0,
    heldCount: 0,
    soldCount: 2,
    depositedMinor,
    revenueMinor: 2 * priceMinor,
    walletsMinor,
    unbalancedCommitCount: 0,
    wrongWalletCount: 0,
    overdrawnWalletCount: 0,
    commitCount: 15,
    headPosition: 15,
  },
  redis: { availableCount: 0, heldCount: 0, soldCount: 2, walletsMinor, headPosition: 15 },
};

const apiRecords: ApiRecords = {
  stock: { availableCount: 0, heldCount: 0, soldCount: 2 },
  log: { commitCount: 15, orderIds: ["first", "second"], orderedUnits: 2, depositedMinor, walletsMinor },
  shop: { userCount: 5, headPosition: 15, durablePosition: 15 },
};

/** Every number and every list in some records, each wrong once. */
function wrongOnes<Records extends object>(records: Records): [path: string, wrong: Records][] {
  return Object.entries(records).flatMap(([part, values]) =>
    Object.entries(values as Record<string, unknown>).map(([name, value]): [string, Records] => {
      const wrong = typeof value === "number" ? value + 1 : ["first", "somebody else's"];
      return [`${part}.${name}`, { ...records, [part]: { ...values, [name]: wrong } }];
    }),
  );
}

function disagreements(checks: readonly Check[]): string[] {
  return checks.filter((check) => !agrees(check)).map(({ name }) => name);
}

describe("the audit", () => {
  it("agrees when all numbers do", () => {
    expect(disagreements(auditStores(witnesses, storeRecords))).toEqual([]);
    expect(disagreements(auditApi(witnesses, apiRecords))).toEqual([]);
  });

  it.each(wrongOnes(storeRecords))("says no when %s is wrong", (_, wrong) => {
    expect(disagreements(auditStores(witnesses, wrong))).not.toEqual([]);
  });

  it.each(wrongOnes(apiRecords))("says no when the API's %s is wrong", (_, wrong) => {
    expect(disagreements(auditApi(witnesses, wrong))).not.toEqual([]);
  });

  it.each(Object.keys(witnesses.watcher))("says no when the watcher's %s is wrong", (name) => {
    const watcher = { ...witnesses.watcher, [name]: 1 };
    expect(disagreements(auditStores({ ...witnesses, watcher }, storeRecords))).not.toEqual([]);
  });

  it.each([
    ["a buyer has no answer", { unknownCount: 1 }],
    ["two answers contradict each other", { contradictedCount: 1 }],
    ["a refusal is missing", { refusals: new Map([["SOLD_OUT", 2]]) }],
    ["an order is missing", { orders: witnesses.result.orders.slice(1) }],
    [
      "an order was charged otherwise",
      { orders: witnesses.result.orders.map((order) => ({ ...order, chargedMinor: 1 })) },
    ],
  ])("says no when %s", (_, wrong) => {
    const result = { ...witnesses.result, ...wrong };
    expect(disagreements(auditStores({ ...witnesses, result }, storeRecords))).not.toEqual([]);
  });

  it("says no when more was sold than there was, even if everybody agrees on it", () => {
    const oversold = { ...witnesses, plan: { ...plan, stockCount: 1 } };
    expect(disagreements(auditStores(oversold, storeRecords))).toContain("units sold");
  });
});

describe("the plan", () => {
  it.each([1, 19, 500, 2000, 2001, 9999])("counts each member of %i buyers once", (buyerCount) => {
    const large = { buyerCount, stockCount: 1, target: undefined };
    const members = Array.from({ length: buyerCount }, (_, buyer) => memberOf(large, buyer)).filter(
      (each) => each !== undefined,
    );
    expect(members).toEqual(Array.from({ length: countMembers(large) }, (_, member) => member));
  });

  it.each([
    { buyers: "0" },
    { buyers: "many" },
    { buyers: "1000001" },
    { stock: "-1" },
    { stock: "1.5" },
    { target: "here" },
  ])("refuses %o in one line that names the option", (values) => {
    expect(() => parsePlan(values)).toThrow(new RegExp(`^--${Object.keys(values)[0]} is .*accepted is [^\n]*$`));
  });
});

it("takes quantiles by nearest rank", () => {
  const latenciesMs = Array.from({ length: 1000 }, (_, index) => 1000 - index);
  expect(summariseLatencies(latenciesMs)).toEqual({ count: 1000, p50Ms: 500, p99Ms: 990, p999Ms: 999, maxMs: 1000 });
  expect(summariseLatencies([])).toEqual({ count: 0, p50Ms: 0, p99Ms: 0, p999Ms: 0, maxMs: 0 });
});

describe("a small sale", () => {
  const config = loadConfig({
    HOLDFAST_PG_POOL_SIZE: "5",
    HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
    HOLDFAST_HTTP_ADDR: "127.0.0.1:0",
  });
  let database: TestDatabase;
  let redis: Awaited<ReturnType<typeof startRedis>>;

  beforeAll(async () => {
    [database, redis] = await Promise.all([createDatabase(), startRedis()]);
  });
  afterAll(async () => {
    await Promise.all([database.drop(), redis.stop()]);
  });

  /** Runs a sale of 20 units to 60 buyers; `onText` hears of everything that is written. */
  async function sell(target?: string, onText = (_: string): void => {}) {
    const written: string[] = [];
    const exitCode = await runDemo({
      config,
      values: { buyers: "60", stock: "20", ...(target === undefined ? {} : { target }) },
      openStores: async () => ({ redisUrl: redis.url, databaseUrl: database.url, stop: async () => {} }),
      output: {
        write: (text) => {
          written.push(text);
          onText(text);
        },
      },
    });
    return { exitCode, report: written.join("") };
  }

  it("sells every unit once, and its audit agrees", async () => {
    const { exitCode, report } = await sell();
    expect(report).toMatch(/^ {2}sold +20$/m);
    expect(report).toMatch(/^ {2}refused +40 +SOLD_OUT/m);
    expect(report).toContain("Everybody agrees.");
    expect(exitCode).toBe(0);
  });

  it("ends with exit code 1 when a store disagrees", async () => {
    const thief = new Redis(redis.url);
    let shopId = "";
    let theft: Promise<number> | undefined;
    const { exitCode, report } = await sell(undefined, (text) => {
      shopId = /shop (demo-\w+)/.exec(text)?.[1] ?? shopId;
      if (text.startsWith("  sold")) theft ??= thief.hincrby(`{${shopId}}:stock`, "console:sold", -1);
    });
    await theft;
    thief.disconnect();
    expect(report).toMatch(
      /^ {4}NO {3}units sold +told 20, orders 20, stock 20, Redis' stock 19, watched 20, expected 20$/m,
    );
    expect(report).toContain("THE AUDIT DISAGREES: units sold.");
    expect(exitCode).toBe(1);
  });

  it("runs against a Holdfast that serves already, and audits it through the API", async () => {
    const stores = { redisUrl: redis.url, databaseUrl: database.url };
    const server = await startServer({ config, ...stores, logger: pino({ level: "silent" }) });
    try {
      const { exitCode, report } = await sell(`127.0.0.1:${server.grpcPort}`);
      expect(report).toMatch(/^ {4}ok {3}units sold +20 {3}told = GetStock = ListEvents = watched = expected$/m);
      expect(exitCode).toBe(0);
    } finally {
      await server.stop();
    }
  });

  it("takes a Ctrl-C that npm passes on as well for one, and cleans up before it ends", async () => {
    const listeners: number[] = [];
    const { exitCode, report } = await sell(undefined, (text) => {
      if (listeners.length > 0 || !text.includes("Flash sale")) return;
      process.emit("SIGINT", "SIGINT");
      listeners.push(process.listenerCount("SIGINT"));
      process.emit("SIGINT", "SIGINT");
    });
    expect(report).toMatch(/\ninterrupted\n$/);
    expect(exitCode).toBe(130);
    // Where nobody listens, Node ends the process.
    expect([...listeners, process.listenerCount("SIGINT")]).toEqual([1, 0]);
  });

  it("says in one line that nobody answers at the target", async () => {
    await expect(sell("127.0.0.1:1")).rejects.toThrow(/^no Holdfast answers gRPC on 127\.0\.0\.1:1: [^\n]*$/);
  });
});
