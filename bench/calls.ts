import { parseArgs } from "node:util";
import { createClient } from "@connectrpc/connect";
import { Client } from "pg";
import { AdminService } from "../gen/holdfast/v1/admin_service_pb.js";
import { InventoryService } from "../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../gen/holdfast/v1/order_service_pb.js";
import {
  AdjustReason,
  ChangeTiming,
  OrderState,
  PaymentMethod,
  ProrationMode,
} from "../gen/holdfast/v1/resources_pb.js";
import { SubscriptionService } from "../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../gen/holdfast/v1/user_service_pb.js";
import { createGrpcTransport } from "../src/client/grpc-transport.ts";
import { makeId } from "../src/shop/ids.ts";
import { startChild } from "./child.ts";
import type { HoldfastPorts, HoldfastRequest } from "./holdfast-server.ts";
import { startStores } from "./stores.ts";

const usage = `usage: npm run bench:calls [-- --rounds N] [-- --orders N]

One caller alone: the median latency of every mutation, in interleaved rounds, next to that of the lightest; then lists of
100 from a shop with 1,000,000 orders (rows put into PostgreSQL by SQL). On private servers; takes about two minutes.
`;

type Clients = ReturnType<typeof createClients>;
type Call = (index: number) => Promise<unknown>;

/** A call whose latency is measured; `prepare` makes what it needs and is not. */
interface Case {
  readonly title: string;
  readonly prepare?: Call;
  readonly call: Call;
}

const shopId = "bench";
const bigShopId = "big";
const lines = [{ sku: "ps5", quantity: 1 }];
const userId = "user-1";

function createClients(target: string, cleanUp: AsyncDisposableStack) {
  const transport = createGrpcTransport({ target, connectionCount: 1 });
  cleanUp.defer(() => transport.close());
  return {
    admin: createClient(AdminService, transport),
    inventory: createClient(InventoryService, transport),
    orders: createClient(OrderService, transport),
    subscriptions: createClient(SubscriptionService, transport),
    users: createClient(UserService, transport),
  };
}

function mutations({ inventory, orders, subscriptions, users }: Clients): readonly Case[] {
  // Ids that carry their time, as a careful caller's do.
  const ids = new Map<string, string>();
  const id = (kind: string, index: number): string => {
    const name = `${kind}${index}`;
    const known = ids.get(name) ?? makeId();
    ids.set(name, known);
    return known;
  };
  const call = () => ({ shopId, requestId: makeId() });
  const place = (index: number, paymentMethod: PaymentMethod) =>
    orders.placeOrder({ ...call(), orderId: id("o", index), userId, lines, paymentMethod });
  const hold = (index: number) => inventory.holdStock({ ...call(), holdId: id("h", index), userId, lines });
  const pending: Call = (index) => place(index, PaymentMethod.EXTERNAL);
  const paid: Call = (index) => place(index, PaymentMethod.WALLET);
  return [
    { title: "PutProduct", call: () => inventory.putProduct({ ...call(), sku: "tv", title: "TV", priceMinor: 100n }) },
    {
      title: "AdjustStock",
      call: () =>
        inventory.adjustStock({ ...call(), sku: "ps5", deltaCount: 1n, reason: AdjustReason.RESTOCK, reference: "r" }),
    },
    { title: "HoldStock", call: hold },
    {
      title: "ExtendHold",
      prepare: hold,
      call: (index) => inventory.extendHold({ ...call(), holdId: id("h", index), holdDuration: { seconds: 900n } }),
    },
    {
      title: "ReleaseHold",
      prepare: hold,
      call: (index) => inventory.releaseHold({ ...call(), holdId: id("h", index) }),
    },
    { title: "PlaceOrder, WALLET", call: paid },
    { title: "PlaceOrder, EXTERNAL", call: pending },
    {
      title: "PlaceOrder, from a hold",
      prepare: hold,
      call: (index) => orders.placeOrder({ ...call(), orderId: id("o", index), holdId: id("h", index) }),
    },
    {
      title: "ConfirmOrder",
      prepare: pending,
      call: (index) => orders.confirmOrder({ ...call(), orderId: id("o", index), paymentReference: "p" }),
    },
    {
      title: "CancelOrder",
      prepare: pending,
      call: (index) => orders.cancelOrder({ ...call(), orderId: id("o", index), reason: "changed my mind" }),
    },
    {
      title: "RefundOrder",
      prepare: paid,
      call: (index) => orders.refundOrder({ ...call(), orderId: id("o", index), reason: "broken", restock: true }),
    },
    {
      title: "FulfillOrder",
      prepare: paid,
      call: (index) => orders.fulfillOrder({ ...call(), orderId: id("o", index), reference: "parcel" }),
    },
    {
      title: "CreateUser, with referral",
      call: (index) => users.createUser({ ...call(), userId: id("u", index), referralCode: "code-of-user-1" }),
    },
    { title: "UpdateUser", call: (index) => users.updateUser({ ...call(), userId, displayName: `Name ${index}` }) },
    { title: "DepositFunds", call: () => users.depositFunds({ ...call(), userId, amountMinor: 1n, reference: "r" }) },
    { title: "WithdrawFunds", call: () => users.withdrawFunds({ ...call(), userId, amountMinor: 1n, reference: "r" }) },
    { title: "GrantCredits", call: () => users.grantCredits({ ...call(), userId, credits: 1n, reason: "r" }) },
    {
      title: "PutTier",
      call: (index) =>
        subscriptions.putTier({
          ...call(),
          tier: "gold",
          priceCredits: BigInt(1 + (index % 2)),
          limits: { maxProjects: 1n, maxStorageMb: 1n, maxApiCalls: 1n },
        }),
    },
    {
      title: "ChangeTier",
      call: (index) =>
        subscriptions.changeTier({
          ...call(),
          userId,
          tier: index % 2 === 0 ? "enterprise" : "pro",
          proration: ProrationMode.TIME_BASED,
          timing: ChangeTiming.NOW,
        }),
    },
    {
      title: "CancelScheduledChange",
      prepare: () => subscriptions.changeTier({ ...call(), userId, tier: "free", timing: ChangeTiming.PERIOD_END }),
      call: () => subscriptions.cancelScheduledChange({ ...call(), userId }),
    },
  ];
}

function lists({ inventory, orders, users }: Clients): readonly Case[] {
  const page = { shopId: bigShopId, pageSize: 100 };
  return [
    { title: "ListOrders", call: () => orders.listOrders(page) },
    { title: "ListOrders, of a user", call: () => orders.listOrders({ ...page, userId: "user-7" }) },
    { title: "ListOrders, PAID", call: () => orders.listOrders({ ...page, state: OrderState.PAID }) },
    { title: "ListOrders, CANCELLED (few)", call: () => orders.listOrders({ ...page, state: OrderState.CANCELLED }) },
    {
      title: "ListOrders, of a user, PAID",
      call: () => orders.listOrders({ ...page, userId: "user-7", state: OrderState.PAID }),
    },
    { title: "ListUsers", call: () => users.listUsers(page) },
    { title: "ListWalletEntries", call: () => users.listWalletEntries({ ...page, userId: "user-7" }) },
    { title: "ListProducts", call: () => inventory.listProducts(page) },
  ];
}

async function openShop({ admin, inventory, users }: Clients): Promise<void> {
  await admin.createShop({ shopId, currencyCode: "USD" });
  await inventory.putProduct({ shopId, sku: "ps5", title: "Console", priceMinor: 100n });
  await inventory.adjustStock({ shopId, sku: "ps5", deltaCount: 1_000_000_000n, reason: AdjustReason.INITIAL });
  await users.createUser({ shopId, userId, ownReferralCode: "code-of-user-1" });
  await users.depositFunds({ shopId, userId, amountMinor: 1_000_000_000_000n });
  await users.grantCredits({ shopId, userId, credits: 1_000_000_000_000n, reason: "bench" });
}

/** Fills a shop with rows that its lists read; its log knows nothing of them. */
async function fillBigShop({ admin }: Clients, database: Client, orderCount: number): Promise<void> {
  await admin.createShop({ shopId: bigShopId, currencyCode: "USD" });
  const line = JSON.stringify([{ sku: "sku-1", quantity: 1, price_minor: 100 }]);
  const statements = [
    `insert into products select '${bigShopId}', 'sku-' || n, 'Title', 100, 0, null, null, false, false, now(), now(), n
     from generate_series(1, 1000) n`,
    `insert into users (shop_id, user_id, email, email_key, display_name, balance_minor, credits, order_count,
       lifetime_value_minor, create_time, update_time, create_position, position)
     select '${bigShopId}', 'user-' || n, '', '', 'Name', 0, 100, 0, 0, now(), now(), n, n from generate_series(1, 100000) n`,
    `insert into orders (shop_id, order_id, user_id, lines, item_count, amount_minor, refunded_minor, state, payment_method, hold_id,
       create_time, update_time, create_position, position)
     select '${bigShopId}', 'order-' || n, 'user-' || n % 1000, '${line}', 1, 100, 0, case when n % 100000 = 0 then 4 else 2 end, 1, '',
       now(), now(), n, n from generate_series(1, ${orderCount}) n`,
    `insert into ledger_entries (shop_id, position, index, account, kind, delta, balance_after, cause, order_id, reference)
     select '${bigShopId}', n, side, case side when 0 then 'user:user-' || n % 1000 else 'revenue' end, 1, 2 * side - 1, 1, 'ORDER',
       'order-' || n, '' from generate_series(1, ${orderCount}) n, generate_series(0, 1) side`,
    `insert into commits (shop_id, position, commit_id, epoch, commit_time, request_id, call, events)
     select '${bigShopId}', n, gen_random_uuid(), 1, now(), '', '{}', '[]' from generate_series(2, ${orderCount}) n`,
    "analyze",
  ];
  for (const statement of statements) {
    await database.query(statement);
  }
}

/** The median latency of each case in milliseconds, per round. */
async function measure(cases: readonly Case[], roundCount: number, callCount: number): Promise<number[][]> {
  const rounds: number[][] = cases.map(() => []);
  let index = 0;
  for (let round = -1; round < roundCount; round += 1) {
    for (const [place, { prepare, call }] of cases.entries()) {
      const times: number[] = [];
      for (let each = 0; each < callCount; each += 1) {
        index += 1;
        await prepare?.(index);
        const startedAt = performance.now();
        await call(index);
        times.push(performance.now() - startedAt);
      }
      if (round >= 0) {
        rounds[place]?.push(median(times)); // the first round warms up
      }
    }
  }
  return rounds;
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] as number;
}

function table(title: string, cases: readonly Case[], rounds: readonly (readonly number[])[]): string {
  const medians = rounds.map(median);
  const lightest = Math.min(...medians);
  const rows = cases.map(({ title: name }, index) => {
    const each = rounds[index] as readonly number[];
    const p50 = medians[index] as number;
    const spread = `${Math.min(...each).toFixed(2)} to ${Math.max(...each).toFixed(2)}`;
    return `| ${name} | ${p50.toFixed(2)} | ${(p50 / lightest).toFixed(2)} | ${spread} |`;
  });
  return [`| ${title} | p50 in ms | to the lightest | spread of rounds |`, "|---|---:|---:|---|", ...rows].join("\n");
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { rounds: { type: "string" }, orders: { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help === true) {
    process.stdout.write(usage);
    return;
  }
  const roundCount = Number(values.rounds ?? 7);
  await using cleanUp = new AsyncDisposableStack();
  const stores = await startStores(cleanUp);
  const database = new Client({ connectionString: stores.databaseUrl });
  await database.connect();
  cleanUp.defer(() => database.end());
  const { databaseUrl, redisUrl } = stores;
  const { grpcPort } = await startChild("./holdfast-server.ts", cleanUp).ask<HoldfastPorts>({
    redisUrl,
    databaseUrl,
  } satisfies HoldfastRequest);
  const clients = createClients(`127.0.0.1:${grpcPort}`, cleanUp);
  await openShop(clients);
  const calls = mutations(clients);
  process.stdout.write(`${table("mutation", calls, await measure(calls, roundCount, 40))}\n\n`);
  const orderCount = Number(values.orders ?? 1_000_000);
  await fillBigShop(clients, database, orderCount);
  const reads = lists(clients);
  const title = `list of 100, ${orderCount.toLocaleString("en")} orders`;
  process.stdout.write(`${table(title, reads, await measure(reads, roundCount, 20))}\n`);
}

await main();
