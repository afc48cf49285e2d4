import { afterAll, beforeAll, expect, test } from "vitest";
import type { PlaceOrderResponse } from "../../gen/holdfast/v1/order_service_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Clients, type HoldfastProcess, spawnHoldfast } from "../helpers/holdfast.ts";
import { commitOf, persist } from "../helpers/load.ts";
import { createShop, unitPriceMinor } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const buyerCount = 10_000;
const stockCount = 1000;
/** Every tenth buyer's request is sent twice at once, as an impatient client or a proxy does. */
const doubledEvery = 10;
const inFlightCount = 256;

const here = useHoldfast();
let there: HoldfastProcess;

beforeAll(async () => {
  there = await spawnHoldfast(here.urls);
});
afterAll(async () => {
  await there?.kill();
});

/** The answer to a buyer; undefined when sold out. */
type Answer = PlaceOrderResponse | undefined;

test("10,000 buyers for 1,000 units, some asking twice, through two processes: exactly 1,000 are sold", async () => {
  const userCount = 100;
  const wallets = Array.from({ length: userCount }, (_, index) => [`u${index}`, 200 * unitPriceMinor] as const);
  const shopId = await createShop(here.grpc, { stock: { ps5: stockCount }, users: Object.fromEntries(wallets) });

  const buy = (clients: Clients, buyer: number): Promise<Answer> =>
    persist(() =>
      clients.orders.placeOrder(
        {
          shopId,
          requestId: `r-${buyer}`,
          orderId: `o-${buyer}`,
          userId: `u${buyer % userCount}`,
          lines: [{ sku: "ps5", quantity: 1 }],
        },
        { timeoutMs: 20_000 },
      ),
    );
  const answers: Answer[][] = [];
  const ask = async (buyer: number): Promise<void> => {
    const clients = buyer % 2 === 0 ? [here.grpc, there.grpc] : [there.grpc, here.grpc];
    const copies = buyer % doubledEvery === 0 ? clients : clients.slice(0, 1);
    answers[buyer] = await Promise.all(copies.map((each) => buy(each, buyer)));
  };
  let next = 0;
  await Promise.all(
    Array.from({ length: inFlightCount }, async () => {
      while (next < buyerCount) {
        next += 1;
        await ask(next - 1);
      }
    }),
  );

  const sold = answers.filter(([answer]) => answer !== undefined).map(([answer]) => answer as PlaceOrderResponse);
  expect(sold).toHaveLength(stockCount);
  for (const [buyer, [answer, copy]] of answers.entries()) {
    if (buyer % doubledEvery !== 0) continue;
    expect(withoutReplay(copy), `buyer ${buyer} and their double`).toEqual(withoutReplay(answer));
    if (answer !== undefined) expect([answer, copy].filter((each) => each?.commit?.replayed)).toHaveLength(1);
  }
  const { stock } = await there.grpc.inventory.getStock({ shopId, sku: "ps5" });
  expect(stock).toMatchObject({ availableCount: 0n, heldCount: 0n, soldCount: BigInt(stockCount) });
  expect(new Set(sold.map(({ order }) => order?.orderId)).size).toBe(stockCount);
  await auditShop({ ...here.urls, shopId }, sold.map(commitOf));
  expect(here.faults).toEqual([]);
}, 60_000);

function withoutReplay(answer: Answer): unknown {
  return answer === undefined ? undefined : { ...answer, commit: { ...answer.commit, replayed: false } };
}
