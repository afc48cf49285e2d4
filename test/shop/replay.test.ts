import { Code } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { auditShop } from "../helpers/audit.ts";
import { type Clients, type Holdfast, startHoldfast } from "../helpers/holdfast.ts";
import { expectRefusal, refusalOf } from "../helpers/refusals.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** A second Holdfast on the same stores: what one answered, the other repeats. */
const first = useHoldfast();
let second: Holdfast;

beforeAll(async () => {
  second = await startHoldfast(first.urls);
});
afterAll(async () => {
  await second?.stop();
});

type Fields = Readonly<Record<string, unknown>>;

/** A mutation: how it is called, and which of its fields can be given otherwise. */
interface Mutation {
  readonly call: (clients: Clients, request: Fields) => Promise<{ commit?: object | undefined }>;
  readonly request: Fields;
  /** Another value for a field, and the path by which the refusal names it. */
  readonly others: readonly (readonly [path: string, fields: Fields])[];
}

const lines = [
  { sku: "a", quantity: 1 },
  { sku: "b", quantity: 2 },
];
const otherLines: Mutation["others"] = [
  ["lines[1].quantity", { lines: [lines[0], { sku: "b", quantity: 3 }] }],
  ["lines[0].sku", { lines: [{ sku: "b", quantity: 1 }, lines[1]] }],
  ["lines[0].expected_price_minor", { lines: [{ ...lines[0], expectedPriceMinor: 100n }, lines[1]] }],
  ["lines[2]", { lines: [...lines, { sku: "a", quantity: 1 }] }],
  ["lines[1]", { lines: [lines[0]] }],
];

const mutations: Readonly<Record<string, Mutation>> = {
  PutProduct: {
    call: ({ inventory }, request) => inventory.putProduct(request),
    request: { sku: "a", title: "again", priceMinor: 100n, maxPerUser: 50, withdrawn: false },
    others: [
      ["sku", { sku: "b" }],
      ["title", { title: "" }],
      ["price_minor", { priceMinor: undefined }],
      ["max_per_user", { maxPerUser: 0 }],
      ["sale_start_time", { saleStartTime: { seconds: 1n } }],
      ["withdrawn", { withdrawn: undefined }],
    ],
  },
  AdjustStock: {
    call: ({ inventory }, request) => inventory.adjustStock(request),
    request: { sku: "a", deltaCount: 5n, reason: AdjustReason.RESTOCK, reference: "note" },
    others: [
      ["delta_count", { deltaCount: 6n }],
      ["reason", { reason: AdjustReason.RETURN }],
      ["reference", { reference: "" }],
      ["expected_available_count", { expectedAvailableCount: 0n }],
    ],
  },
  HoldStock: {
    call: ({ inventory }, request) => inventory.holdStock(request),
    request: { holdId: "h9", userId: "ann", lines, holdDuration: { seconds: 60n } },
    others: [
      ...otherLines,
      ["hold_id", { holdId: "h8" }],
      ["hold_id", { holdId: "" }],
      ["user_id", { userId: "" }],
      ["hold_duration", { holdDuration: { seconds: 60n, nanos: 1_000_000 } }],
      ["hold_duration", { holdDuration: undefined }],
    ],
  },
  ExtendHold: {
    call: ({ inventory }, request) => inventory.extendHold(request),
    request: { holdId: "h1", holdDuration: { seconds: 700n } },
    others: [
      ["hold_id", { holdId: "h2" }],
      ["hold_duration", { holdDuration: { seconds: 701n } }],
    ],
  },
  ReleaseHold: {
    call: ({ inventory }, request) => inventory.releaseHold(request),
    request: { holdId: "h1" },
    others: [["hold_id", { holdId: "h2" }]],
  },
  PlaceOrder: {
    call: ({ orders }, request) => orders.placeOrder(request),
    request: { orderId: "o9", userId: "ann", lines },
    others: [
      ...otherLines,
      ["order_id", { orderId: "o8" }],
      ["user_id", { userId: "bob" }],
      ["payment_method", { paymentMethod: PaymentMethod.NONE }],
    ],
  },
  "PlaceOrder from a hold": {
    call: ({ orders }, request) => orders.placeOrder(request),
    request: { orderId: "o7", holdId: "h2", userId: "ann" },
    others: [
      ["hold_id", { holdId: "h1" }],
      ["user_id", { userId: "" }],
    ],
  },
  CreateUser: {
    call: ({ users }, request) => users.createUser(request),
    request: { userId: "eve", email: "eve@example.com", displayName: "Eve" },
    others: [
      ["user_id", { userId: "eva" }],
      ["email", { email: "EVE@example.com" }],
      ["display_name", { displayName: "" }],
    ],
  },
  "CreateUser with a referral": {
    call: ({ users }, request) => users.createUser(request),
    request: { userId: "eve", referralCode: "REF", requireReferral: true },
    others: [
      ["referral_code", { referralCode: "none" }],
      ["own_referral_code", { ownReferralCode: "EVE" }],
      ["require_referral", { requireReferral: false }],
    ],
  },
  UpdateUser: {
    call: ({ users }, request) => users.updateUser(request),
    request: { userId: "ann", email: "Anna@example.com", displayName: "Anna" },
    others: [
      ["user_id", { userId: "bob" }],
      ["email", { email: "anna@example.com" }],
      ["display_name", { displayName: "" }],
    ],
  },
  WithdrawFunds: {
    call: ({ users }, request) => users.withdrawFunds(request),
    request: { userId: "ann", amountMinor: 7n, reference: "note" },
    others: [
      ["user_id", { userId: "bob" }],
      ["amount_minor", { amountMinor: 8n }],
      ["reference", { reference: "" }],
    ],
  },
  GrantCredits: {
    call: ({ users }, request) => users.grantCredits(request),
    request: { userId: "ann", credits: 7n, reason: "note" },
    others: [
      ["user_id", { userId: "bob" }],
      ["credits", { credits: 8n }],
      ["reason", { reason: "Note" }],
    ],
  },
  DepositFunds: {
    call: ({ users }, request) => users.depositFunds(request),
    request: { userId: "ann", amountMinor: 7n, reference: "note" },
    others: [
      ["user_id", { userId: "bob" }],
      ["amount_minor", { amountMinor: 8n }],
      ["reference", { reference: "Note" }],
    ],
  },
};

/** A shop in which every mutation above is accepted. */
async function prepareShop(): Promise<string> {
  const shopId = await createShop(first.grpc, { stock: { a: 100, b: 100 }, users: { ann: 10_000, bob: 0 } });
  await first.grpc.users.createUser({ shopId, userId: "ref", ownReferralCode: "REF" });
  for (const holdId of ["h1", "h2"]) {
    await first.grpc.inventory.holdStock({ shopId, holdId, userId: "ann", lines: [{ sku: "a", quantity: 1 }] });
  }
  return shopId;
}

/** Changes everything that the mutations above touched. */
async function changeEverything(shopId: string): Promise<void> {
  const { inventory, orders, users } = first.grpc;
  await users.depositFunds({ shopId, userId: "ann", amountMinor: 1000n });
  await users.withdrawFunds({ shopId, userId: "ann", amountMinor: 1n });
  await users.grantCredits({ shopId, userId: "ann", credits: 1n });
  await users.createUser({ shopId, referralCode: "REF" });
  await inventory.putProduct({ shopId, sku: "a", title: "changed", priceMinor: 1n, maxPerUser: 60 });
  await inventory.adjustStock({ shopId, sku: "a", deltaCount: -3n, reason: AdjustReason.DAMAGE });
  for (const holdId of ["h9", "h1", "h2"]) {
    // Some of them ended already, each in another way.
    await inventory.releaseHold({ shopId, holdId }).catch(() => {});
  }
  await orders.placeOrder({ shopId, userId: "ann", lines: [{ sku: "b", quantity: 1 }] });
}

const replayed = <Answer extends { commit?: object | undefined }>(answer: Answer): Answer => ({
  ...answer,
  commit: { ...answer.commit, replayed: true },
});

describe.each(Object.entries(mutations))("%s with a request id", (_, { call, request, others }) => {
  test("repeated is answered as the first time, on both doors and by another process, also after changes", async () => {
    const shopId = await prepareShop();
    const whole = { shopId, requestId: uniqueId("r"), ...request };
    const answer = await call(first.grpc, whole);
    expect(answer.commit).toMatchObject({ requestId: whole.requestId, replayed: false, durable: true });
    const { shop: before } = await first.grpc.admin.getShop({ shopId });
    for (const clients of [first.grpc, first.http, second.grpc, second.http]) {
      expect(await call(clients, whole)).toEqual(replayed(answer));
    }
    expect((await first.grpc.admin.getShop({ shopId })).shop, "a replay writes nothing").toEqual(before);
    await changeEverything(shopId);
    for (const clients of [first.http, second.grpc]) {
      expect(await call(clients, whole)).toEqual(replayed(answer));
    }
  });

  test("repeated after Redis was emptied is answered as the first time", async () => {
    const shopId = await prepareShop();
    const whole = { shopId, requestId: uniqueId("r"), ...request };
    const answer = await call(first.grpc, whole);
    await changeEverything(shopId);
    const redis = new Redis(first.redis.url);
    await redis.flushall();
    redis.disconnect();
    expect(await call(second.grpc, whole)).toEqual(replayed(answer));
    expect(await call(first.http, whole)).toEqual(replayed(answer));
    await auditShop({ ...first.urls, shopId });
  });

  test("is refused with another body, naming the field", async () => {
    const shopId = await prepareShop();
    const whole = { shopId, requestId: uniqueId("r"), ...request };
    await call(first.grpc, whole);
    for (const [field, other] of others) {
      for (const clients of [first.grpc, second.http]) {
        await expectRefusal(clients, shopId, () => call(clients, { ...whole, ...other }), {
          code: Code.InvalidArgument,
          reason: "REQUEST_ID_REUSED",
          metadata: expect.objectContaining({ field }),
        });
      }
    }
  });

  test("is refused by every other RPC", async () => {
    const shopId = await prepareShop();
    const requestId = uniqueId("r");
    await call(first.grpc, { shopId, requestId, ...request });
    for (const other of Object.values(mutations).filter((each) => String(each.call) !== String(call))) {
      await expectRefusal(first.grpc, shopId, () => other.call(first.grpc, { shopId, requestId, ...other.request }), {
        code: Code.InvalidArgument,
        reason: "REQUEST_ID_REUSED",
        metadata: expect.objectContaining({ field: "rpc" }),
      });
    }
  });

  test("sent eight times at once takes effect once", async () => {
    const shopId = await prepareShop();
    const { shop: before } = await first.grpc.admin.getShop({ shopId });
    const whole = { shopId, requestId: uniqueId("r"), ...request };
    const doors = [first.grpc, first.http, second.grpc, second.http];
    const answers = await Promise.all([...doors, ...doors].map((clients) => call(clients, whole)));
    const fresh = answers.filter(({ commit }) => (commit as { replayed: boolean }).replayed === false);
    expect(fresh).toHaveLength(1);
    for (const answer of answers) expect(replayed(answer)).toEqual(replayed(fresh[0] as object));
    const { shop } = await first.grpc.admin.getShop({ shopId });
    expect(shop?.headPosition).toBe((before?.headPosition ?? 0n) + 1n);
  });
});

describe("a request id", () => {
  const order = { lines: [{ sku: "a", quantity: 1 }], paymentMethod: PaymentMethod.NONE };

  test("belongs to its shop", async () => {
    const [one, two] = [await prepareShop(), await prepareShop()];
    const answers = [];
    for (const shopId of [one, two]) {
      answers.push(await first.grpc.orders.placeOrder({ shopId, requestId: "same", orderId: `o-${shopId}`, ...order }));
    }
    expect(answers.map(({ commit }) => commit?.replayed)).toEqual([false, false]);
  });

  test("of a refusal is free: the request is decided anew, and may be another", async () => {
    const shopId = await prepareShop();
    const request = { shopId, requestId: "r1", orderId: "o1", lines: [{ sku: "a", quantity: 99 }], paymentMethod: 3 };
    expect(await refusalOf(first.grpc.orders.placeOrder(request))).toMatchObject({ reason: "HELD_OUT" });
    await first.grpc.inventory.adjustStock({ shopId, sku: "a", deltaCount: 10n, reason: AdjustReason.RESTOCK });
    const { commit } = await first.grpc.orders.placeOrder({ ...request, orderId: "o2" });
    expect(commit).toMatchObject({ requestId: "r1", replayed: false });
  });

  test("is made by the server when there is none, and can be used for a replay", async () => {
    const shopId = await prepareShop();
    const request = { shopId, orderId: "o1", ...order };
    const answer = await first.grpc.orders.placeOrder(request);
    const requestId = answer.commit?.requestId ?? "";
    expect(requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(await second.http.orders.placeOrder({ ...request, requestId })).toEqual(replayed(answer));
  });

  test.each(["grpc", "http"] as const)("may come in the header idempotency-key, on the %s door", async (door) => {
    const { orders } = first[door];
    const shopId = await prepareShop();
    const request = { shopId, orderId: "o1", ...order };
    const answer = await orders.placeOrder(request, { headers: { "idempotency-key": '"key-1"' } });
    expect(answer.commit?.requestId).toBe("key-1");
    for (const [fields, header] of [
      [{}, "key-1"],
      [{ requestId: "key-1" }, '"key-1"'],
      [{ requestId: "key-1" }, undefined],
    ] as const) {
      const options = header === undefined ? {} : { headers: { "idempotency-key": header } };
      expect(await orders.placeOrder({ ...request, ...fields }, options)).toEqual(replayed(answer));
    }
    for (const [fields, header] of [
      [{ requestId: "key-2" }, "key-1"],
      [{}, "key 1"],
      [{}, "x".repeat(65)],
    ] as const) {
      const call = () => orders.placeOrder({ ...request, ...fields }, { headers: { "idempotency-key": header } });
      await expectRefusal(first.grpc, shopId, call, {
        code: Code.InvalidArgument,
        reason: "VALIDATION_FAILED",
        fields: ["request_id"],
      });
    }
  });

  test("is compared on parsed fields: what means the same is the same", async () => {
    const shopId = await prepareShop();
    const hold = { shopId, requestId: "r1", holdId: "h9", lines: [{ sku: "a", quantity: 1 }] };
    const answer = await first.grpc.inventory.holdStock({ ...hold, holdDuration: { seconds: 60n, nanos: 5 } });
    const again = await first.http.inventory.holdStock({ ...hold, holdDuration: { seconds: 60n, nanos: 999_999 } });
    expect(again).toEqual(replayed(answer));
    const viaJson = await fetch(`${first.httpUrl}/holdfast.v1.InventoryService/HoldStock`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: `{"lines":[{"quantity":"1","sku":"a"}],"holdDuration":"60.0s","userId":"","hold_id":"h9",
        "requestId":"r1","shop_id":"${shopId}"}`,
    });
    expect(await viaJson.json()).toMatchObject({ commit: { replayed: true, commitId: answer.commit?.commitId } });
  });
});

describe("the id of a resource", () => {
  test.each([
    ["HoldStock", "HOLD_EXISTS", "holdId"],
    ["PlaceOrder", "ORDER_EXISTS", "orderId"],
    ["CreateUser", "USER_EXISTS", "userId"],
  ] as const)(
    "of %s answers an equal body with another request id, and refuses another body",
    async (rpc, reason, idField) => {
      const { call, request, others } = mutations[rpc] as Mutation;
      const shopId = await prepareShop();
      const answer = await call(first.grpc, { shopId, requestId: "r1", ...request });
      await changeEverything(shopId);
      for (const requestId of ["", "r2"]) {
        expect(await call(second.http, { shopId, requestId, ...request })).toEqual(replayed(answer));
      }
      for (const [field, other] of others.filter(([, fields]) => !(idField in fields))) {
        await expectRefusal(first.grpc, shopId, () => call(first.grpc, { shopId, ...request, ...other }), {
          code: Code.AlreadyExists,
          reason,
          metadata: expect.objectContaining({ field }),
        });
      }
    },
  );
});
