import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { OrderRates } from "../../bench/growth/measure-orders.ts";
import { openSmallShop } from "../../bench/growth/shops.ts";
import { openClients, type Testbed } from "../../bench/growth/testbed.ts";
import { type GuardedRates, measureGuards } from "../../bench/overload/measure-guards.ts";
import { renderGuards } from "../../bench/overload/render-guards.ts";
import { startGuarded } from "../../bench/overload/start-guarded.ts";
import { hotSku } from "../../bench/sale.ts";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { useHoldfast } from "../helpers/use-holdfast.ts";
import { openTestbed } from "./open-testbed.ts";

const holdfast = useHoldfast();
const cleanUp = new AsyncDisposableStack();
let testbed: Testbed;

beforeAll(async () => {
  testbed = await openTestbed(holdfast, cleanUp);
});

afterAll(() => cleanUp.disposeAsync());

it("guards a server in all ways: it asks who calls, keeps rates, logs, and has metrics", async () => {
  const { bed, logFile, readMetrics } = await startGuarded(testbed, cleanUp);
  await openSmallShop(bed, "asked");
  const order = { shopId: "asked", lines: [{ sku: hotSku, quantity: 1 }], paymentMethod: PaymentMethod.NONE };

  await expect(openClients(bed.port, cleanUp).orders.placeOrder(order)).rejects.toMatchObject({
    refusal: { reason: "UNAUTHENTICATED" },
  });
  expect(await readFile(logFile, "utf8")).toMatch(/"level":30.*"reason":"UNAUTHENTICATED"/);

  // The counters of rates are there for a second.
  const countedFor = async (): Promise<string[]> => {
    await bed.clients.orders.placeOrder(order);
    return (await bed.redis.keys("holdfast:rate:*")).toSorted();
  };
  await expect.poll(countedFor).toEqual(["holdfast:rate:principal:buyer", "holdfast:rate:shop:asked"]);
  expect(await readMetrics()).toMatch(/^grpc_server_handled_total\{.*grpc_method="PlaceOrder",grpc_code="OK"\} [1-9]/m);
});

it("measures a server with guards and one without in every round", async () => {
  const { signal } = new AbortController();
  const rounds = { roundCount: 2, durationMs: 100, signal, say: () => {} };
  const measured = await measureGuards(testbed, rounds, cleanUp);
  const turns = measured.map(({ round, isGuarded }) => `${round}: ${isGuarded ? "with" : "without"}`);
  expect(turns.toSorted()).toEqual(["0: with", "0: without", "1: with", "1: without"]);
  expect(measured.map(({ otherCount }) => otherCount)).toEqual([0, 0, 0, 0]);
  expect(renderGuards(measured)).not.toMatch(/NaN|undefined|Infinity/);
  const { rows } = await testbed.database.query(
    "select distinct shop_id, call ->> 'principal' as principal from commits where shop_id in ('plain', 'guarded') order by 1",
  );
  expect(rows).toEqual([
    { shop_id: "guarded", principal: "buyer" },
    { shop_id: "plain", principal: "" },
  ]);
});

/** Rounds by their orders per second, without guards and with. */
function rounds(...rates: readonly (readonly [without: number, guarded: number])[]): GuardedRates[] {
  const rest: Omit<OrderRates, "perSecond"> = {
    doneCount: 1,
    otherCount: 0,
    p50Ms: 1,
    p99Ms: 2,
    cpuUs: { server: 100 },
  };
  return rates.flatMap(([without, guarded], round) => [
    { ...rest, round, isGuarded: true, perSecond: guarded },
    { ...rest, round, isGuarded: false, perSecond: without },
  ]);
}

it("shows what is left with guards by the median of the ratios within each round", () => {
  // The machine was half as fast in the last round.
  const text = renderGuards(rounds([1000, 900], [1000, 950], [500, 440]));
  expect(text).toMatch(/\| orders per second +\| 0\.85 at least \| +1,000 \| +900 \| +0\.90 \|/);
});

it("marks what is not as wanted, and nothing else", () => {
  expect(renderGuards(rounds([1000, 850]))).not.toContain("!");
  expect(renderGuards(rounds([1000, 849]))).toContain("0.85 !");
  const equal = [1000, 1000] as const;
  const refused = rounds(equal, equal, equal).map((each) => ({
    ...each,
    otherCount: each.isGuarded && each.round === 1 ? 3 : 0,
  }));
  expect(renderGuards(refused)).toMatch(/\| calls that were no order, in all +\| +0 \| +0 \| +3 ! \|/);
});
