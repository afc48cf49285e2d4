import { type DescMethod, ScalarType } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { credentials, Client as GrpcClient } from "@grpc/grpc-js";
import { Redis } from "ioredis";
import { beforeAll, describe, expect, test } from "vitest";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { auditShop } from "../helpers/audit.ts";
import type { Clients } from "../helpers/holdfast.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
let shopId = "";

beforeAll(async () => {
  shopId = await createShop(holdfast.grpc, { stock: { a: 1000 }, users: { ann: 1000 } });
  await holdfast.grpc.inventory.holdStock({ shopId, holdId: "h", lines: [{ sku: "a", quantity: 1 }] });
});

type Fields = Readonly<Record<string, unknown>>;

const lines = [{ sku: "a", quantity: 1 }];

/** Every unary RPC, with a request that would be accepted. */
const rpcs: readonly { method: DescMethod; service: keyof Clients; valid: Fields }[] = [
  { method: InventoryService.method.putProduct, service: "inventory", valid: { sku: "a" } },
  { method: InventoryService.method.getProduct, service: "inventory", valid: { sku: "a" } },
  { method: InventoryService.method.listProducts, service: "inventory", valid: {} },
  {
    method: InventoryService.method.adjustStock,
    service: "inventory",
    valid: { sku: "a", deltaCount: 1n, reason: AdjustReason.RESTOCK },
  },
  { method: InventoryService.method.getStock, service: "inventory", valid: { sku: "a" } },
  { method: InventoryService.method.batchGetStock, service: "inventory", valid: { skus: ["a"] } },
  { method: InventoryService.method.holdStock, service: "inventory", valid: { lines } },
  { method: InventoryService.method.getHold, service: "inventory", valid: { holdId: "h" } },
  { method: InventoryService.method.listHolds, service: "inventory", valid: {} },
  { method: InventoryService.method.extendHold, service: "inventory", valid: { holdId: "h" } },
  { method: InventoryService.method.releaseHold, service: "inventory", valid: { holdId: "h" } },
  { method: OrderService.method.placeOrder, service: "orders", valid: { userId: "ann", lines } },
  { method: OrderService.method.confirmOrder, service: "orders", valid: { orderId: "o" } },
  { method: OrderService.method.cancelOrder, service: "orders", valid: { orderId: "o" } },
  { method: OrderService.method.refundOrder, service: "orders", valid: { orderId: "o" } },
  { method: OrderService.method.fulfillOrder, service: "orders", valid: { orderId: "o" } },
  { method: OrderService.method.getOrder, service: "orders", valid: { orderId: "o" } },
  { method: OrderService.method.listOrders, service: "orders", valid: {} },
  { method: UserService.method.createUser, service: "users", valid: {} },
  { method: UserService.method.updateUser, service: "users", valid: { userId: "ann" } },
  { method: UserService.method.getUser, service: "users", valid: { userId: "ann" } },
  { method: UserService.method.lookupUser, service: "users", valid: { email: "ann@example.com" } },
  { method: UserService.method.listUsers, service: "users", valid: {} },
  { method: UserService.method.depositFunds, service: "users", valid: { userId: "ann", amountMinor: 1n } },
  { method: UserService.method.withdrawFunds, service: "users", valid: { userId: "ann", amountMinor: 1n } },
  { method: UserService.method.grantCredits, service: "users", valid: { userId: "ann", credits: 1n } },
  { method: UserService.method.listWalletEntries, service: "users", valid: { userId: "ann" } },
  {
    method: SubscriptionService.method.putTier,
    service: "subscriptions",
    valid: { tier: "gold", priceCredits: 1n, limits: {} },
  },
  { method: SubscriptionService.method.listTiers, service: "subscriptions", valid: {} },
  { method: SubscriptionService.method.getSubscription, service: "subscriptions", valid: { userId: "ann" } },
  {
    method: SubscriptionService.method.previewTierChange,
    service: "subscriptions",
    valid: { userId: "ann", tier: "pro" },
  },
  { method: SubscriptionService.method.changeTier, service: "subscriptions", valid: { userId: "ann", tier: "pro" } },
  { method: SubscriptionService.method.cancelScheduledChange, service: "subscriptions", valid: { userId: "ann" } },
  { method: SubscriptionService.method.listTierChanges, service: "subscriptions", valid: { userId: "ann" } },
  { method: EventService.method.listEvents, service: "events", valid: {} },
  { method: EventService.method.ackEvents, service: "events", valid: { consumer: "mailer" } },
  { method: EventService.method.getConsumer, service: "events", valid: { consumer: "mailer" } },
  { method: EventService.method.listConsumers, service: "events", valid: {} },
  { method: AdminService.method.createShop, service: "admin", valid: { currencyCode: "USD" } },
  { method: AdminService.method.getShop, service: "admin", valid: {} },
  { method: AdminService.method.listShops, service: "admin", valid: {} },
  { method: AdminService.method.getShopStats, service: "admin", valid: {} },
  { method: AdminService.method.listSkuStats, service: "admin", valid: {} },
];

const requiredIds = new Set([
  "PutProduct.sku",
  "GetProduct.sku",
  "AdjustStock.sku",
  "GetStock.sku",
  "GetHold.hold_id",
  "ExtendHold.hold_id",
  "ReleaseHold.hold_id",
  "GetOrder.order_id",
  "GetUser.user_id",
  "DepositFunds.user_id",
  "ConfirmOrder.order_id",
  "CancelOrder.order_id",
  "RefundOrder.order_id",
  "FulfillOrder.order_id",
  "UpdateUser.user_id",
  "LookupUser.email",
  "WithdrawFunds.user_id",
  "GrantCredits.user_id",
  "ListWalletEntries.user_id",
  "PutTier.tier",
  "GetSubscription.user_id",
  "PreviewTierChange.user_id",
  "PreviewTierChange.tier",
  "ChangeTier.user_id",
  "CancelScheduledChange.user_id",
  "ListTierChanges.user_id",
  "AckEvents.consumer",
  "GetConsumer.consumer",
]);

const badIds = ["a b", "ü", "a/b", "a:b", "a\u0000", "a\n", "\u007f", "😀", "x".repeat(65), "'; drop table shops; --"];
const badTexts = ["x".repeat(257), "😀".repeat(257), "a\u0000b", "line\nfeed", "\u001b[2J", "\u007f", "\u0085"];
const texts = new Set(["title", "reference", "payment_reference", "reason", "email", "display_name"]);
const tokens = new Set(["page_token", "quote_token"]);

/** A request that must be refused, and the field it must be refused for. */
interface BadRequest {
  readonly fields: Fields;
  readonly field: string;
}

/** Bad values for the text fields of a request, by what the contract says of fields with such names. */
function badStrings(method: DescMethod): BadRequest[] {
  return method.input.fields.flatMap((field) => {
    if (field.fieldKind !== "scalar" || field.scalar !== ScalarType.STRING) return [];
    const values = tokens.has(field.name) ? ["x".repeat(1025)] : texts.has(field.name) ? [...badTexts] : [...badIds];
    if (requiredIds.has(`${method.name}.${field.name}`)) values.push("");
    return values.map((value) => ({ fields: { [field.localName]: value }, field: field.name }));
  });
}

const huge = 2n ** 53n;
const wrongQuantities = [0, -1, 1_000_001, 2_147_483_647, -2_147_483_648];
const manyLines = Array.from({ length: 101 }, () => ({ sku: "a", quantity: 1 }));
const badCart: BadRequest[] = [
  ...wrongQuantities.map((quantity) => ({ fields: { lines: [{ sku: "a", quantity }] }, field: "lines[0].quantity" })),
  { fields: { lines: manyLines }, field: "lines" },
  { fields: { lines: [...lines, { sku: "", quantity: 1 }] }, field: "lines[1].sku" },
  { fields: { lines: [...lines, { sku: "a b", quantity: 1 }] }, field: "lines[1].sku" },
  ...[-1n, huge].map((price) => ({
    fields: { lines: [{ sku: "a", quantity: 1, expectedPriceMinor: price }] },
    field: "lines[0].expected_price_minor",
  })),
];
const badDurations: BadRequest[] = [
  { seconds: 0n, nanos: 0 },
  { seconds: -1n, nanos: 0 },
  { seconds: 86_401n, nanos: 0 },
  { seconds: 86_400n, nanos: 1 },
  { seconds: 315_576_000_000n, nanos: 0 },
].map((holdDuration) => ({ fields: { holdDuration }, field: "hold_duration" }));
const badAmounts = [0n, -1n, huge, 2n ** 63n - 1n, -(2n ** 63n)];
const badPageSize: BadRequest[] = [{ fields: { pageSize: -1 }, field: "page_size" }];
const badChanges: BadRequest[] = [3, 99, -1].flatMap((number) => [
  { fields: { proration: number }, field: "proration" },
  { fields: { timing: number }, field: "timing" },
]);
const badEventTypes = ["", "ORDER_PLACED", "order placed", "nothing"];
const badSubjects = ["ps5", "sku:", ":ps5", "sku:a b", `sku:${"x".repeat(65)}`];

/** What else must be refused, by RPC. */
const badRequests: Readonly<Record<string, readonly BadRequest[]>> = {
  PutProduct: [
    ...[-1n, huge, -huge, 2n ** 63n - 1n].map((priceMinor) => ({ fields: { priceMinor }, field: "price_minor" })),
    ...[-1, -2_147_483_648].map((maxPerUser) => ({ fields: { maxPerUser }, field: "max_per_user" })),
    { fields: { saleStartTime: { seconds: -1n } }, field: "sale_start_time" },
    { fields: { saleEndTime: { seconds: 253_402_300_799n, nanos: 1 } }, field: "sale_end_time" },
    { fields: { saleStartTime: { seconds: 5n }, saleEndTime: { seconds: 4n } }, field: "" },
  ],
  AdjustStock: [
    ...[0n, huge, -huge].map((deltaCount) => ({ fields: { deltaCount }, field: "delta_count" })),
    ...[0, 6, 99, -1, 2_147_483_647].map((reason) => ({ fields: { reason }, field: "reason" })),
    ...[-1n, huge].map((count) => ({ fields: { expectedAvailableCount: count }, field: "expected_available_count" })),
  ],
  BatchGetStock: [
    { fields: { skus: [] }, field: "skus" },
    { fields: { skus: manyLines.map(({ sku }) => sku) }, field: "skus" },
    { fields: { skus: ["a", ""] }, field: "skus[1]" },
  ],
  HoldStock: [...badCart, ...badDurations, { fields: { lines: [] }, field: "lines" }],
  ExtendHold: badDurations,
  PlaceOrder: [
    ...badCart,
    { fields: { lines: [] }, field: "" },
    { fields: { holdId: "h" }, field: "" },
    ...[5, 99, -1].map((paymentMethod) => ({
      fields: { paymentMethod },
      field: "payment_method",
    })),
  ],
  RefundOrder: [
    ...badAmounts.map((amountMinor) => ({ fields: { amountMinor }, field: "amount_minor" })),
    ...wrongQuantities.map((quantity) => ({
      fields: { restockLines: [{ sku: "a", quantity }] },
      field: "restock_lines[0].quantity",
    })),
    { fields: { restockLines: manyLines }, field: "restock_lines" },
    { fields: { restockLines: [...lines, { sku: "", quantity: 1 }] }, field: "restock_lines[1].sku" },
    { fields: { restock: true, restockLines: lines }, field: "" },
  ],
  ListOrders: [...badPageSize, ...[6, 99, -1].map((state) => ({ fields: { state }, field: "state" }))],
  DepositFunds: badAmounts.map((amountMinor) => ({ fields: { amountMinor }, field: "amount_minor" })),
  WithdrawFunds: badAmounts.map((amountMinor) => ({ fields: { amountMinor }, field: "amount_minor" })),
  GrantCredits: badAmounts.map((credits) => ({ fields: { credits }, field: "credits" })),
  ListUsers: badPageSize,
  ListWalletEntries: badPageSize,
  PutTier: [
    ...[-1n, 1_000_000_001n, huge].map((priceCredits) => ({ fields: { priceCredits }, field: "price_credits" })),
    ...[-1n, huge].flatMap((limit) => [
      { fields: { limits: { maxProjects: limit } }, field: "limits.max_projects" },
      { fields: { limits: { maxStorageMb: limit } }, field: "limits.max_storage_mb" },
      { fields: { limits: { maxApiCalls: limit } }, field: "limits.max_api_calls" },
    ]),
    { fields: { tier: "free" }, field: "" },
  ],
  ListTiers: badPageSize,
  PreviewTierChange: badChanges,
  ChangeTier: [...badChanges, { fields: { tier: "" }, field: "" }],
  ListTierChanges: badPageSize,
  AckEvents: [-1n, huge].map((position) => ({ fields: { position }, field: "position" })),
  ListConsumers: badPageSize,
  ListSkuStats: badPageSize,
  ListProducts: badPageSize,
  ListHolds: [{ fields: { pageSize: -2_147_483_648 }, field: "page_size" }],
  ListShops: badPageSize,
  ListEvents: [
    { fields: { pageSize: -1 }, field: "page_size" },
    ...[-1n, huge].map((afterPosition) => ({ fields: { afterPosition }, field: "after_position" })),
    ...badEventTypes.map((name) => ({ fields: { eventTypes: [name] }, field: "event_types[0]" })),
    ...badSubjects.map((subject) => ({ fields: { subjects: ["sku:a", subject] }, field: "subjects[1]" })),
    { fields: { subjects: Array.from({ length: 101 }, (_, index) => `sku:${index}`) }, field: "subjects" },
  ],
  CreateShop: ["", "usd", "US", "USDX", "U$D"].map((currencyCode) => ({
    fields: { currencyCode },
    field: "currency_code",
  })),
};

/** Every key of the shop with its content, but how far PostgreSQL is: the sweeper notes that when it comes by. */
async function readKeys(): Promise<Record<string, unknown>> {
  const redis = new Redis(holdfast.redis.url);
  const meta = `{${shopId}}:meta`;
  const keys = (await redis.keys(`{${shopId}}:*`)).filter((key) => key !== meta).sort();
  const [{ flushed: _, ...noted }, ...dumps] = await Promise.all([
    redis.hgetall(meta),
    ...keys.map((key) => redis.dumpBuffer(key)),
  ]);
  redis.disconnect();
  return { [meta]: noted, ...Object.fromEntries(keys.map((key, index) => [key, dumps[index]?.toString("base64")])) };
}

/** Fails unless what is called leaves the shop as it was, and the shop sells afterwards. */
async function leavesTheShopAlone(act: () => Promise<void>): Promise<void> {
  const { shop: before } = await holdfast.grpc.admin.getShop({ shopId });
  const keys = await readKeys();
  await act();
  expect((await holdfast.grpc.admin.getShop({ shopId })).shop).toEqual(before);
  expect(await readKeys()).toEqual(keys);
  expect(holdfast.faults, "nothing that anybody sends is a fault of ours").toEqual([]);
  await expectSells();
}

async function expectSells(): Promise<void> {
  const { commit } = await holdfast.grpc.orders.placeOrder({ shopId, lines, paymentMethod: PaymentMethod.NONE });
  expect(commit).toMatchObject({ durable: true, replayed: false });
}

describe.each(["grpc", "http"] as const)("on the %s door", (door) => {
  test.each(rpcs)("$method.name refuses every bad value, naming the field, and writes nothing", async (rpc) => {
    const { method, service, valid } = rpc;
    const bad = [...badStrings(method), ...(badRequests[method.name] ?? [])];
    expect(bad.length).toBeGreaterThan(0);
    const client = holdfast[door][service] as unknown as Record<string, (request: Fields) => Promise<unknown>>;
    await leavesTheShopAlone(async () => {
      for (const { fields, field } of bad) {
        const call = client[method.localName]?.({ shopId, ...valid, ...fields }) ?? Promise.resolve();
        const refusal = await refusalOf(call).catch((error) => {
          throw new Error(
            `${JSON.stringify(fields, (_, value) => (typeof value === "bigint" ? `${value}` : value))}: ${error}`,
          );
        });
        expect(refusal).toMatchObject({ code: Code.InvalidArgument, reason: "VALIDATION_FAILED" });
        expect(refusal.fields).toContain(field);
      }
    });
  });

  test("takes texts that break careless quoting, and gives them back after a rebuild too", async () => {
    const { inventory, users, admin } = holdfast[door];
    const texts = [
      `'"\\/\`$%s%d{}[]<>&;--`,
      "\\u0000 \\ud800 \\x00 \\n",
      "]]>\u2028\u2029\ufeff\uffff\u200b\u202e",
      "😀".repeat(256),
      "é\u0301\u{10ffff}",
      "null",
      " leading and trailing ",
      "%%%1$s",
      "{shop}:log",
    ];
    const name = `n-${door}`;
    const expected: unknown[] = [];
    const read = async (): Promise<unknown[]> => {
      const found: unknown[] = [];
      for (const index of texts.keys()) {
        found.push((await inventory.getProduct({ shopId, sku: `${name}${index}` })).product);
        found.push((await users.getUser({ shopId, userId: `${name}${index}` })).user);
      }
      return found;
    };
    for (const [index, text] of texts.entries()) {
      const sku = `${name}${index}`;
      const { product } = await inventory.putProduct({ shopId, sku, title: text, priceMinor: 1n });
      expect(product?.title).toBe(text);
      await inventory.adjustStock({ shopId, sku, deltaCount: 1n, reason: AdjustReason.RESTOCK, reference: text });
      const email = `${text.slice(0, 200)}${name}`;
      await users.createUser({ shopId, userId: sku, email, displayName: text });
      const { user } = await users.depositFunds({ shopId, userId: sku, amountMinor: 1n, reference: text });
      expect(user).toMatchObject({ email, displayName: text });
      expected.push(product, user);
    }
    expect(await read()).toEqual(expected);
    await holdfast.server.store.shops.get(shopId).reopen(true);
    const { shop } = await admin.getShop({ shopId });
    expect(shop?.durablePosition).toBe(shop?.headPosition);
    expect(await read()).toEqual(expected);
    await expectSells();
  });
});

describe("what no client of ours would send", () => {
  const post = async (path: string, contentType: string, body: string | Uint8Array<ArrayBuffer>) => {
    const headers = { "content-type": contentType };
    const response = await fetch(`${holdfast.httpUrl}/holdfast.v1.${path}`, { method: "POST", headers, body });
    return { status: response.status, answer: (await response.json()) as { code?: string; message?: string } };
  };

  test.each([
    ["a misspelt field", { requestID: "r1" }],
    ["a field of another message", { sku: "a" }],
    ["an unknown field in a line", { lines: [{ sku: "a", quantity: 1, price: 5 }] }],
    ["an unknown enum name", { paymentMethod: "PAYMENT_METHOD_CASH" }],
    ["a fraction for an integer", { lines: [{ sku: "a", quantity: 1.5 }] }],
    ["a number past 32 bits", { lines: [{ sku: "a", quantity: 4_294_967_297 }] }],
    ["a number past 64 bits", { lines: [{ sku: "a", quantity: 1, expectedPriceMinor: "99999999999999999999" }] }],
    ["a list for a text", { userId: ["ann"] }],
    ["a lone surrogate", { userId: "\ud800" }],
    ["nothing but null lines", { lines: [null] }],
  ])("JSON with %s is refused", async (_, fields) => {
    await leavesTheShopAlone(async () => {
      const body = JSON.stringify({ shopId, userId: "ann", lines, ...fields });
      const { status, answer } = await post("OrderService/PlaceOrder", "application/json", body);
      expect({ status, code: answer.code }).toEqual({ status: 400, code: "invalid_argument" });
    });
  });

  test.each([
    ["no JSON", "{"],
    ["a list", "[]"],
    ["a text", '"x"'],
    ["nothing", ""],
    ["broken UTF-8", Uint8Array.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
  ])("a body that is %s is refused", async (_, body) => {
    await leavesTheShopAlone(async () => {
      const { status, answer } = await post("OrderService/PlaceOrder", "application/json", body);
      expect({ status, code: answer.code }).toEqual({ status: 400, code: "invalid_argument" });
    });
  });

  const malformed: readonly [string, Buffer][] = [
    ["a field cut off", Buffer.from([0x0a, 0x7f, 0x61])],
    ["an endless varint", Buffer.alloc(16, 0xff)],
    ["a wrong wire type", Buffer.from([0x0b, 0x01])],
    ["field number 0", Buffer.from([0x02, 0x01, 0x61])],
    ["broken UTF-8", Buffer.from([0x0a, 0x02, 0xc3, 0x28])],
    ["noise", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
  ];

  test.each(malformed)("malformed protobuf on the HTTP door is refused: %s", async (_, body) => {
    await leavesTheShopAlone(async () => {
      const { status, answer } = await post("OrderService/PlaceOrder", "application/proto", new Uint8Array(body));
      expect({ status, code: answer.code }).toEqual({ status: 400, code: "invalid_argument" });
    });
  });

  test.each(malformed)("malformed protobuf on the gRPC door is refused: %s", async (_, body) => {
    const client = new GrpcClient(holdfast.grpcAddress, credentials.createInsecure());
    const keep = (bytes: Buffer): Buffer => bytes;
    await leavesTheShopAlone(async () => {
      const code = await new Promise((resolve) => {
        client.makeUnaryRequest("/holdfast.v1.OrderService/PlaceOrder", keep, keep, body, (error) =>
          resolve(error?.code),
        );
      });
      expect(code).toBe(Code.InvalidArgument);
    });
    client.close();
  });
});

test("after all of it the history is whole, in both stores", async () => {
  await auditShop({ ...holdfast.urls, shopId });
});
