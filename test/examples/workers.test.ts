import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { type Example, startWorker } from "../helpers/example.ts";
import { type HoldfastProcess, spawnHoldfast } from "../helpers/holdfast.ts";
import { startProxy } from "../helpers/proxy.ts";
import { createShop } from "../helpers/shop.ts";
import { type SmtpSink, startSmtpSink } from "../helpers/smtp-sink.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
let second: HoldfastProcess;
let sink: SmtpSink;
const started: Example[] = [];

beforeAll(async () => {
  [second, sink] = await Promise.all([spawnHoldfast(holdfast.urls), startSmtpSink()]);
});

afterEach(async () => {
  for (const worker of started.splice(0)) {
    worker.signal("SIGKILL");
    await worker.ended;
  }
});

afterAll(async () => {
  await Promise.all([second?.kill(), sink?.stop()]);
});

/** Starts a worker of a shop; it is killed after the test unless it has ended by then. */
function work(name: string, shopId: string, env: Readonly<Record<string, string>> = {}): Example {
  const worker = startWorker(name, {
    HOLDFAST_GRPC: `http://${holdfast.grpcAddress}`,
    HOLDFAST_SHOP: shopId,
    SMTP_URL: sink.url,
    ...env,
  });
  started.push(worker);
  return worker;
}

/** Waits until a consumer has acknowledged all that is durable. */
async function caughtUp(shopId: string, consumer: string): Promise<void> {
  const lag = async () => {
    const { consumers } = await holdfast.grpc.events.listConsumers({ shopId });
    const found = consumers.find((each) => each.consumer === consumer);
    return found === undefined || found.position === 0n ? undefined : Number(found.lagCount);
  };
  await expect.poll(lag, { timeout: 15_000 }).toBe(0);
}

/** Waits until a consumer has acknowledged a commit. */
async function acknowledged(shopId: string, consumer: string, commit: { position: bigint } | undefined): Promise<void> {
  const isThere = async () => {
    const { consumers } = await holdfast.grpc.events.listConsumers({ shopId });
    return consumers.some((each) => each.consumer === consumer && each.position >= (commit?.position ?? 0n));
  };
  await expect.poll(isThere, { timeout: 15_000 }).toBe(true);
}

/** Ends a worker as an operator would. */
async function terminate(worker: Example): Promise<void> {
  worker.signal("SIGTERM");
  expect(await worker.ended, worker.output).toBe(0);
  expect(worker.output).toContain("ends: SIGTERM");
}

const mailsTo = (address: string) => sink.mails.filter(({ to }) => to.includes(address));

async function createUser(shopId: string, userId: string): Promise<string> {
  const email = `${userId}@${shopId}.example.com`;
  await holdfast.grpc.users.createUser({ shopId, userId, email, displayName: `Name of ${userId}` });
  return email;
}

describe("welcome-email", () => {
  it("writes to every new user who has an address, in their order, and acknowledges them", async () => {
    const shopId = await createShop(holdfast.grpc);
    const before = await createUser(shopId, "before");
    await holdfast.grpc.users.createUser({ shopId, userId: "nobody" });
    await holdfast.grpc.users.createUser({ shopId, userId: "nowhere", email: 'a@b.example, "c"@d.example' });
    await createUser(shopId, "unknown");
    const worker = work("welcome-email", shopId);
    await caughtUp(shopId, "welcome-email");
    const after = await createUser(shopId, "after");
    const padded = `padded@${shopId}.example`;
    await holdfast.grpc.users.createUser({ shopId, userId: "padded", email: ` ${padded} ` });
    await caughtUp(shopId, "welcome-email");
    await terminate(worker);
    const mails = sink.mails.filter(({ to }) => to[0]?.includes(shopId));
    expect(mails.map(({ to }) => to)).toEqual([[before], [after], [padded]]);
    const { user } = await holdfast.grpc.users.getUser({ shopId, userId: "before" });
    expect(user?.referralCode).not.toBe("");
    expect(mails[0]?.text).toContain(user?.referralCode);
    expect(mails[0]?.headers.get("to")).toContain("Name of before");
    expect(worker.output).toContain("nobody has no e-mail address");
    expect(worker.output).toContain("nowhere has no e-mail address");
    expect(worker.output).toContain("unknown cannot be reached");
  });

  it("repeats what the mail server turns away, instead of going on without it", async () => {
    const shopId = await createShop(holdfast.grpc);
    const address = await createUser(shopId, "ann");
    sink.refuse(true);
    const refusedBefore = sink.refusedCount;
    const worker = work("welcome-email", shopId);
    await expect.poll(() => sink.refusedCount - refusedBefore, { timeout: 15_000 }).toBeGreaterThanOrEqual(3);
    const { consumer } = await holdfast.grpc.events.getConsumer({ shopId, consumer: "welcome-email" });
    expect(consumer?.position).toBe(0n);
    expect(mailsTo(address)).toEqual([]);
    sink.refuse(false);
    await caughtUp(shopId, "welcome-email");
    expect(mailsTo(address).length).toBe(1);
    await terminate(worker);
  });

  it("ends at once on SIGTERM also while it repeats, and a later one takes up what is left", async () => {
    const shopId = await createShop(holdfast.grpc);
    const address = await createUser(shopId, "ann");
    sink.refuse(true);
    const refusedBefore = sink.refusedCount;
    const worker = work("welcome-email", shopId);
    await expect.poll(() => sink.refusedCount - refusedBefore, { timeout: 15_000 }).toBeGreaterThanOrEqual(1);
    await terminate(worker);
    sink.refuse(false);
    const next = work("welcome-email", shopId);
    await caughtUp(shopId, "welcome-email");
    expect(mailsTo(address).length).toBe(1);
    await terminate(next);
  });

  it("watches again, from where it was, when its connection is cut and when its server stops", async () => {
    const leaving = await spawnHoldfast(holdfast.urls);
    const proxy = await startProxy(`http://${leaving.grpcAddress}`);
    const shopId = await createShop(holdfast.grpc);
    const addresses = [await createUser(shopId, "u1")];
    const worker = work("welcome-email", shopId, { HOLDFAST_GRPC: proxy.url });
    await caughtUp(shopId, "welcome-email");
    proxy.refuse();
    addresses.push(await createUser(shopId, "u2"));
    await expect.poll(() => worker.output, { timeout: 15_000 }).toContain("the watch ended, another follows");
    proxy.accept();
    await caughtUp(shopId, "welcome-email");
    leaving.signal("SIGTERM");
    await expect.poll(() => worker.output, { timeout: 15_000 }).toContain("the server stops; watching again");
    await leaving.ended;
    await terminate(worker);
    const next = work("welcome-email", shopId);
    addresses.push(await createUser(shopId, "u3"));
    await caughtUp(shopId, "welcome-email");
    expect(addresses.map((address) => mailsTo(address).length)).toEqual([1, 1, 1]);
    await terminate(next);
    await proxy.stop();
  });

  it("says what it lacks, and ends with 1, without a mail server's address and in a shop that does not exist", async () => {
    const without = work("welcome-email", "none", { SMTP_URL: "" });
    expect(await without.ended).toBe(1);
    expect(without.output).toContain("SMTP_URL is not set");
    const nowhere = work("welcome-email", "no-such-shop");
    expect(await nowhere.ended).toBe(1);
    expect(nowhere.output).toContain('there is no shop "no-such-shop"');
  });
});

describe("two workers under one name", () => {
  it.each([
    ["on one server", () => holdfast.grpcAddress],
    ["on two servers", () => second.grpcAddress],
  ])("%s: the older ends, and the newer goes on from what was acknowledged", async (_, address) => {
    const shopId = await createShop(holdfast.grpc);
    const addresses = [await createUser(shopId, "u1")];
    const older = work("welcome-email", shopId);
    await caughtUp(shopId, "welcome-email");
    const newer = work("welcome-email", shopId, { HOLDFAST_GRPC: `http://${address()}` });
    expect(await older.ended).toBe(3);
    expect(older.output).toContain("ends: another worker has taken over");
    addresses.push(await createUser(shopId, "u2"));
    await caughtUp(shopId, "welcome-email");
    expect(addresses.map((each) => mailsTo(each).length)).toEqual([1, 1]);
    await terminate(newer);
  });

  it("the older ends also while it repeats what fails", async () => {
    const shopId = await createShop(holdfast.grpc);
    const address = await createUser(shopId, "ann");
    const stuck = work("welcome-email", shopId, { SMTP_URL: "smtp://127.0.0.1:1" });
    await expect.poll(() => stuck.output, { timeout: 15_000 }).toContain("userCreated at position");
    const newer = work("welcome-email", shopId);
    expect(await stuck.ended).toBe(3);
    await caughtUp(shopId, "welcome-email");
    expect(mailsTo(address).length).toBe(1);
    await terminate(newer);
  });

  it("work side by side under two names", async () => {
    const shopId = await createShop(holdfast.grpc);
    const address = await createUser(shopId, "ann");
    const workers = ["a", "b"].map((name) => work("welcome-email", shopId, { HOLDFAST_CONSUMER: name }));
    await caughtUp(shopId, "a");
    await caughtUp(shopId, "b");
    expect(mailsTo(address).length).toBe(2);
    for (const worker of workers) {
      await terminate(worker);
    }
  });
});

/** A message as the text message service got it. */
interface TextMessage {
  readonly id: string | undefined;
  readonly body: unknown;
}

describe("order-mail", () => {
  const messages: TextMessage[] = [];
  let failuresLeft = 0;
  let sms: Server;
  let smsUrl: string;

  beforeAll(async () => {
    sms = createServer(async (request, response) => {
      const body: unknown = JSON.parse(await text(request));
      if (failuresLeft > 0) {
        failuresLeft -= 1;
        response.writeHead(503).end();
        return;
      }
      messages.push({ id: request.headers["idempotency-key"] as string | undefined, body });
      response.writeHead(202).end();
    }).listen(0, "127.0.0.1");
    await once(sms, "listening");
    smsUrl = `http://127.0.0.1:${(sms.address() as AddressInfo).port}/messages`;
  });

  afterAll(() => {
    sms?.close();
  });

  it("tells users of paid, refunded and cancelled orders, by e-mail and text message", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 20 }, users: { ann: 10_000 } });
    const { orders } = holdfast.grpc;
    const lines = [{ sku: "ps5", quantity: 2 }];
    await orders.placeOrder({ shopId, orderId: "wallet", userId: "ann", lines });
    await orders.placeOrder({ shopId, orderId: "guest", lines, paymentMethod: PaymentMethod.NONE });
    const paymentMethod = PaymentMethod.EXTERNAL;
    await orders.placeOrder({ shopId, orderId: "external", userId: "ann", lines, paymentMethod });
    await orders.placeOrder({ shopId, orderId: "given-up", userId: "ann", lines, paymentMethod });
    await orders.confirmOrder({ shopId, orderId: "external", paymentReference: "card 1" });
    await orders.cancelOrder({ shopId, orderId: "given-up", reason: "fraud suspected" });
    for (const reason of ["EXPIRED", "PAYMENT_DECLINED"]) {
      await orders.placeOrder({ shopId, orderId: reason, userId: "ann", lines, paymentMethod });
      await orders.cancelOrder({ shopId, orderId: reason, reason });
    }
    await orders.refundOrder({ shopId, orderId: "wallet", amountMinor: 50n, reason: "scratched" });
    failuresLeft = 2;
    const mailCount = sink.mails.length;
    const worker = work("order-mail", shopId, { SMS_URL: smsUrl });
    await caughtUp(shopId, "order-mail");
    await terminate(worker);
    const expected = [
      "Your order wallet is paid: $2.00 for 2 x ps5.",
      "Your order external is paid: $2.00 for 2 x ps5.",
      "Your order given-up was cancelled.",
      "Your order EXPIRED was cancelled: it was not paid in time.",
      "Your order PAYMENT_DECLINED was cancelled: the payment was declined.",
      "Your order wallet was refunded: $0.50.",
    ];
    expect(sink.mails.slice(mailCount).map((mail) => [mail.to[0], mail.text.trim()])).toEqual(
      expected.map((each) => ["ann@example.com", each]),
    );
    expect(failuresLeft, "failed text messages were repeated, without the e-mail before them").toBe(0);
    expect(messages.map(({ body }) => body)).toEqual(expected.map((each) => ({ user_id: "ann", text: each })));
    expect(new Set(messages.map(({ id }) => id)).size).toBe(expected.length);
  });

  it("sends e-mail alone without SMS_URL", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 20 }, users: { ann: 10_000 } });
    await holdfast.grpc.orders.placeOrder({ shopId, userId: "ann", lines: [{ sku: "ps5", quantity: 1 }] });
    const [mailCount, messageCount] = [sink.mails.length, messages.length];
    const worker = work("order-mail", shopId);
    await caughtUp(shopId, "order-mail");
    await terminate(worker);
    expect([sink.mails.length - mailCount, messages.length - messageCount]).toEqual([1, 0]);
  });
});

describe("fulfillment", () => {
  it("fulfils every order that was paid, once, and leaves the others", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 50 }, users: { ann: 10_000 } });
    const { orders, events } = holdfast.grpc;
    const lines = [{ sku: "ps5", quantity: 1 }];
    const longId = "o".repeat(64);
    for (const orderId of ["wallet", longId, "refunded", "done"]) {
      await orders.placeOrder({ shopId, orderId, userId: "ann", lines });
    }
    await orders.placeOrder({ shopId, orderId: "free", lines, paymentMethod: PaymentMethod.NONE });
    for (const orderId of ["confirmed", "pending"]) {
      await orders.placeOrder({ shopId, orderId, userId: "ann", lines, paymentMethod: PaymentMethod.EXTERNAL });
    }
    const confirmed = await orders.confirmOrder({ shopId, orderId: "confirmed", paymentReference: "card 1" });
    await orders.refundOrder({ shopId, orderId: "refunded", reason: "changed my mind" });
    await orders.fulfillOrder({ shopId, orderId: "done", reference: "by hand" });
    const worker = work("fulfillment", shopId);
    await acknowledged(shopId, "fulfillment", confirmed.commit);
    const late = await orders.confirmOrder({ shopId, orderId: "pending", paymentReference: "card 2" });
    await acknowledged(shopId, "fulfillment", late.commit);
    await terminate(worker);
    const stateOf = async (orderId: string) => (await orders.getOrder({ shopId, orderId })).order?.state;
    for (const orderId of ["wallet", longId, "done", "free", "confirmed", "pending"]) {
      expect(await stateOf(orderId), orderId).toBe(OrderState.FULFILLED);
    }
    expect(await stateOf("refunded")).toBe(OrderState.REFUNDED);
    const { events: fulfilled } = await events.listEvents({ shopId, eventTypes: ["order_fulfilled"] });
    expect(fulfilled.length).toBe(6);
    // A worker that begins anew does nothing twice.
    const again = work("fulfillment", shopId, { HOLDFAST_CONSUMER: "fulfillment-again" });
    await acknowledged(shopId, "fulfillment-again", late.commit);
    await terminate(again);
    expect((await events.listEvents({ shopId, eventTypes: ["order_fulfilled"] })).events.length).toBe(6);
    expect(again.output).toContain("wallet: was fulfilled already");
    expect(again.output).toContain("refunded: nothing to do any more");
  });
});

describe("HOLDFAST_GRPC", () => {
  it("may be host:port", async () => {
    const shopId = await createShop(holdfast.grpc);
    const worker = work("fulfillment", shopId, { HOLDFAST_GRPC: holdfast.grpcAddress });
    await caughtUp(shopId, "fulfillment");
    await terminate(worker);
  });

  it.each(["nonsense", "http://", "ftp://shop:1", "shop:70000"])("%s is refused in one line", async (address) => {
    const worker = work("fulfillment", "default", { HOLDFAST_GRPC: address });
    expect(await worker.ended).toBe(1);
    const says = `fulfillment: HOLDFAST_GRPC is "${address}", accepted is host:port or http://host:port`;
    expect(worker.output).toBe(`${says}, such as 127.0.0.1:50051\n`);
  });
});
