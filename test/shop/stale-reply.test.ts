import { Redis } from "ioredis";
import { afterAll, beforeAll, test } from "vitest";
import type { PlaceOrderResponse } from "../../gen/holdfast/v1/order_service_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { createDatabaseCopies, type DatabaseCopies } from "../helpers/database-copies.ts";
import { type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { commitOf, persist, startLoad } from "../helpers/load.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { copyShop, restoreShop } from "../helpers/redis-state.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();
let direct: Redis;
let copies: DatabaseCopies;
let toPostgres: TcpProxy;
/** What it decides is held back from Postgres. */
let slow: Holdfast;
let other: Holdfast;

beforeAll(async () => {
  direct = new Redis(stores.redis.url);
  copies = createDatabaseCopies(stores.database);
  toPostgres = await startProxy(stores.database.url);
  slow = await startHoldfast({ redisUrl: stores.redis.url, databaseUrl: toPostgres.url });
  other = await startHoldfast(stores.urls);
});
afterAll(async () => {
  direct?.disconnect();
  await slow?.stop();
  await other?.stop();
  await toPostgres?.stop();
  await copies?.drop();
});

/** Commits that a look at the log shows at most, behind the head. */
const lookCount = 500;

test("a reply that Redis lost since does not take the place of what was acknowledged, while Postgres is healed", async () => {
  const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 1_000_000]));
  const shopId = await createShop(other.grpc, { stock: { ps5: 5000 }, users });
  const place = async ({ grpc }: Holdfast, requestId: string) => {
    const lines = [{ sku: "ps5", quantity: 1 }];
    const request = { shopId, requestId, orderId: `order-${requestId}`, userId: "u0", lines };
    return commitOf(
      (await persist(() => grpc.orders.placeOrder(request, { timeoutMs: 25_000 }))) as PlaceOrderResponse,
    );
  };
  const earlier = await copies.take();
  const acknowledged = [await place(slow, "first")];
  const callers = { clients: [other.grpc], shopId, callerCount: 50 };
  acknowledged.push(...(await startLoad({ ...callers, requestCount: lookCount - 1 }).result).acknowledged);
  const before = await copyShop(direct, shopId);
  const held = toPostgres.hold((request) => request.includes("order-stale"));
  const pending = place(slow, "stale");
  await held;
  // Redis loses its tail, one commit that nobody was told of, and Postgres a whole look, which Redis still has.
  await restoreShop(direct, shopId, before);
  acknowledged.push(await place(other, "next"));
  await other.stop();
  await copies.putBack(earlier);
  acknowledged.push(await pending);
  await auditShop({ ...stores.urls, shopId }, acknowledged);
}, 90_000);
