import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Charge, chargeKey, OutcomeUnknown, type Refund, refundKey } from "../../src/payments/gateway.ts";
import { createStripeGateway } from "../../src/payments/stripe-gateway.ts";
import { type FakeStripe, type Fault, startFakeStripe } from "../helpers/fake-stripe.ts";
import { uniqueId } from "../helpers/shop.ts";

let stripe: FakeStripe;
beforeAll(async () => {
  stripe = await startFakeStripe({ delayMs: 1500 });
});
beforeEach(() => stripe.misbehave(() => undefined));
afterAll(() => stripe?.stop());

const patient = new AbortController().signal;
const settings = { apiKey: "sk_test_holdfast", paymentMethod: "pm_card_visa", attemptTimeoutMs: 15_000 };
/** Long enough for an answer that is not held back, on a busy machine too, and not for one that is. */
const hasty = { attemptTimeoutMs: 700 };

function gateway(changes: Partial<typeof settings> = {}) {
  return createStripeGateway({ ...settings, apiBase: stripe.url, ...changes });
}

function newCharge(changes: Partial<Charge> = {}): Charge {
  const orderId = uniqueId("o");
  const price = { amountMinor: 49_900, currencyCode: "USD" };
  return { shopId: "default", orderId, userId: "ann", ...price, isKeyOld: false, ...changes };
}

function charge(charge: Charge, changes?: Partial<typeof settings>) {
  return gateway(changes).charge(charge, patient);
}

/** What the book says of an order. */
function booked({ orderId }: Charge) {
  return stripe.charges.filter(({ metadata }) => metadata.order_id === orderId);
}

/** The first request with a key meets a fault; its repeats don't. */
function misbehaveOnce(fault: Fault): void {
  stripe.misbehave(({ attempt }) => (attempt === 1 ? fault : undefined));
}

async function kindOf(asked: Promise<unknown>): Promise<string> {
  const error = await asked.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return error instanceof OutcomeUnknown ? error.kind : `${error}`;
}

describe("a charge", () => {
  test("is a PaymentIntent, created and confirmed under the order's id", async () => {
    const wanted = newCharge();
    const outcome = await charge(wanted);
    expect(outcome).toEqual({ outcome: "charged", chargeId: booked(wanted)[0]?.id });
    expect(stripe.requests.at(-1)).toMatchObject({
      method: "POST",
      path: "/v1/payment_intents",
      key: wanted.orderId,
      params: {
        amount: "49900",
        currency: "usd",
        confirm: "true",
        payment_method: "pm_card_visa",
        error_on_requires_action: "true",
        "metadata[order_id]": wanted.orderId,
        "metadata[shop_id]": "default",
        "metadata[user_id]": "ann",
      },
    });
  });

  test("is made once, however often it is asked for", async () => {
    const wanted = newCharge();
    const first = await charge(wanted);
    expect(await Promise.all([charge(wanted), charge(wanted), charge(wanted)])).toEqual([first, first, first]);
    expect(booked(wanted)).toHaveLength(1);
  });

  test("of the same order id in two shops is two charges", async () => {
    const orderId = uniqueId("o");
    const [here, there] = [newCharge({ orderId }), newCharge({ orderId, shopId: "other" })];
    expect(await charge(here)).not.toEqual(await charge(there));
    expect(booked(here).map(({ key }) => key)).toEqual([orderId, `other/${orderId}`]);
  });

  test("of a guest is made too", async () => {
    expect(await charge(newCharge({ userId: "" }))).toMatchObject({ outcome: "charged" });
  });

  test("that is declined is an outcome, the same when asked again", async () => {
    misbehaveOnce("decline");
    const wanted = newCharge();
    const declined = { outcome: "declined", reason: "generic_decline" };
    expect(await charge(wanted)).toEqual(declined);
    expect(await charge(wanted)).toEqual(declined);
    expect(booked(wanted)).toEqual([]);
  });

  test("that Stripe never takes, for its amount, is declined", async () => {
    expect(await charge(newCharge({ amountMinor: 49 }))).toEqual({ outcome: "declined", reason: "amount_too_small" });
  });

  test.each<[Fault, number]>([
    ["cut", 0],
    ["unavailable", 0],
    ["rate limit", 0],
    ["drop", 1],
    ["error", 1],
    ["delay", 1],
  ])(
    "whose answer is a '%s' has an unknown outcome, and is made once when it is asked for again",
    async (fault, count) => {
      misbehaveOnce(fault);
      const wanted = newCharge();
      expect(await kindOf(charge(wanted, hasty))).toBe("unavailable");
      expect(booked(wanted), "the first request").toHaveLength(count);
      await expect.poll(() => kindOf(charge(wanted)), { timeout: 5000, interval: 20 }).toBe("undefined");
      expect(await charge(wanted)).toEqual({ outcome: "charged", chargeId: booked(wanted)[0]?.id });
      expect(booked(wanted)).toHaveLength(1);
    },
  );

  test("sends one request per attempt: the client repeats nothing by itself", async () => {
    misbehaveOnce("cut");
    const wanted = newCharge();
    await kindOf(charge(wanted, hasty));
    expect(stripe.requests.filter(({ key }) => key === wanted.orderId)).toHaveLength(1);
  });

  test("that is asked for while the first request is worked on is a conflict", async () => {
    misbehaveOnce("delay");
    const wanted = newCharge();
    await kindOf(charge(wanted, hasty));
    expect(await kindOf(charge(wanted))).toBe("conflict");
    expect(booked(wanted)).toHaveLength(1);
  });

  test("whose key Stripe answers with a remembered 500 is looked for, and found", async () => {
    misbehaveOnce("remembered error");
    const wanted = newCharge();
    expect(await kindOf(charge(wanted)), "the first answer says nothing").toBe("unavailable");
    expect(await charge(wanted)).toEqual({ outcome: "charged", chargeId: booked(wanted)[0]?.id });
    expect(booked(wanted)).toHaveLength(1);
  });

  test("that was under way at first is looked at again", async () => {
    misbehaveOnce("processing");
    const wanted = newCharge();
    expect(await charge(wanted)).toEqual({ outcome: "charged", chargeId: booked(wanted)[0]?.id });
  });

  test("whose key was used with other parameters is refused, not charged and not declined", async () => {
    const wanted = newCharge();
    await charge(wanted);
    expect(await kindOf(charge({ ...wanted, amountMinor: 1000 }))).toBe("refused");
    expect(booked(wanted).map(({ amount }) => amount)).toEqual([49_900]);
  });

  test("whose key was used with another payment method is looked for, and found", async () => {
    const wanted = newCharge();
    misbehaveOnce("drop");
    await kindOf(charge(wanted, hasty));
    const outcome = await gateway({ paymentMethod: "pm_card_other" }).charge(wanted, patient);
    expect(outcome).toEqual({ outcome: "charged", chargeId: booked(wanted)[0]?.id });
    expect(booked(wanted)).toHaveLength(1);
  });

  test.each<[Fault, string]>([
    ["drop", "charged"],
    ["remembered error", "charged"],
    ["decline", "declined"],
    ["cut", "declined"],
  ])("with a forgotten key, whose answer was a '%s', is looked for and not made: %s", async (fault, outcome) => {
    misbehaveOnce(fault);
    const wanted = newCharge();
    await kindOf(charge(wanted, hasty));
    const before = booked(wanted);
    stripe.forgetKeys();
    expect(await charge({ ...wanted, isKeyOld: true })).toMatchObject({ outcome });
    expect(booked(wanted)).toEqual(before);
    expect(stripe.requests.filter(({ key }) => key === wanted.orderId)).toHaveLength(1);
  });

  test("with a wrong API key is refused", async () => {
    const wanted = newCharge();
    expect(await kindOf(gateway({ apiKey: "sk_test_wrong" }).charge(wanted, patient))).toBe("refused");
    expect(booked(wanted)).toEqual([]);
  });

  test("at an address where nobody answers, or somebody else does, has an unknown outcome", async () => {
    const other = createServer((_, response) => response.end("<html>not Stripe</html>"));
    other.listen(0, "127.0.0.1");
    await once(other, "listening");
    const apiBase = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    const lost = createStripeGateway({ ...settings, apiBase });
    expect(await kindOf(lost.charge(newCharge(), patient))).toBe("unavailable");
    other.closeAllConnections();
    other.close();
    await once(other, "close");
    expect(await kindOf(lost.charge(newCharge(), patient))).toBe("unavailable");
  });
});

describe("a refund", () => {
  async function newRefund(changes: Partial<Refund> = {}): Promise<Refund> {
    const wanted = newCharge();
    const outcome = await charge(wanted);
    const chargeId = outcome.outcome === "charged" ? outcome.chargeId : "";
    return { key: refundKey("default", wanted.orderId, 1), chargeId, amountMinor: 900, isKeyOld: false, ...changes };
  }
  const refund = (wanted: Refund, changes?: Partial<typeof settings>) => gateway(changes).refund(wanted, patient);
  const bookedRefunds = ({ chargeId }: Refund) => stripe.refunds.filter((each) => each.charge === chargeId);

  test("is made once under its key, and told by its id", async () => {
    const wanted = await newRefund();
    const id = await refund(wanted);
    expect(await refund(wanted)).toBe(id);
    expect(bookedRefunds(wanted)).toMatchObject([{ id, amount: 900, key: wanted.key }]);
  });

  test.each<Fault>(["cut", "unavailable", "drop", "error", "remembered error", "delay"])(
    "whose answer is a '%s' is made once when it is asked for again",
    async (fault) => {
      const wanted = await newRefund();
      misbehaveOnce(fault);
      expect(await kindOf(refund(wanted, hasty))).toBe("unavailable");
      await expect.poll(() => kindOf(refund(wanted)), { timeout: 5000, interval: 20 }).toBe("undefined");
      expect(bookedRefunds(wanted)).toHaveLength(1);
    },
  );

  test("with an old key is looked for, because Stripe forgot the key", async () => {
    const wanted = await newRefund();
    const id = await refund(wanted);
    stripe.forgetKeys();
    expect(await refund({ ...wanted, isKeyOld: true })).toBe(id);
    expect(bookedRefunds(wanted)).toHaveLength(1);
  });

  test("with an old key that was never made is made", async () => {
    const wanted = await newRefund({ isKeyOld: true });
    expect(await refund(wanted)).toMatch(/^re_/);
    expect(bookedRefunds(wanted)).toHaveLength(1);
  });

  test("of more than was charged is refused", async () => {
    expect(await kindOf(refund(await newRefund({ amountMinor: 49_901 })))).toBe("refused");
  });
});

describe("keys", () => {
  test("of a charge are never those of a refund, whatever an order is called", () => {
    const orders = ["o", "o.refund.1", "o.refund.1.refund.1", "charge"];
    const shops = ["default", "o", "other", "o.refund.1"];
    const keys = shops.flatMap((shopId) =>
      orders.flatMap((orderId) => [
        chargeKey({ shopId, orderId }),
        ...[1, 2].map((number) => refundKey(shopId, orderId, number)),
      ]),
    );
    expect(new Set(keys).size).toBe(keys.length);
  });
});
