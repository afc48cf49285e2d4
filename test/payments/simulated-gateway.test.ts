import { expect, test } from "vitest";
import { type Charge, OutcomeUnknown } from "../../src/payments/gateway.ts";
import { createSimulatedGateway } from "../../src/payments/simulated-gateway.ts";

const patient = new AbortController().signal;
const orders = Array.from({ length: 1000 }, (_, index) => `o-${index}`);

function charge(orderId: string): Charge {
  return { shopId: "default", orderId, userId: "", amountMinor: 100, currencyCode: "USD", isKeyOld: false };
}

test("charges every order once by its id, unless settings say otherwise", async () => {
  const gateway = createSimulatedGateway({ latencyMs: 0 });
  const outcomes = await Promise.all(orders.map((orderId) => gateway.charge(charge(orderId), patient)));
  const ids = outcomes.map((each) => (each.outcome === "charged" ? each.chargeId : "none"));
  expect(new Set(ids).size).toBe(orders.length);
  expect(await gateway.charge(charge("o-7"), patient)).toEqual(outcomes[7]);
});

test("declines its share of the orders, the same ones after a restart", async () => {
  const decide = () => {
    const gateway = createSimulatedGateway({ latencyMs: 0, declineRate: 0.3 });
    return Promise.all(orders.map((orderId) => gateway.charge(charge(orderId), patient)));
  };
  const outcomes = await decide();
  expect(await decide()).toEqual(outcomes);
  const declined = outcomes.filter(({ outcome }) => outcome === "declined");
  expect(declined.length).toBeGreaterThan(220);
  expect(declined.length).toBeLessThan(380);
});

test("leaves its share of the attempts without an answer until nobody waits", async () => {
  const gateway = createSimulatedGateway({ latencyMs: 0, timeoutRate: 1 });
  const ending = new AbortController();
  const asked = gateway.charge(charge("o-1"), ending.signal);
  const early = await Promise.race([asked, new Promise((resolve) => setTimeout(resolve, 30, "none"))]);
  expect(early).toBe("none");
  ending.abort();
  await expect(asked).rejects.toBeInstanceOf(OutcomeUnknown);
});

test("makes a refund the same one for the same key", async () => {
  const gateway = createSimulatedGateway({ latencyMs: 0 });
  const refund = { key: "o-1.refund.1", chargeId: "sim_ch_1", amountMinor: 1, isKeyOld: false };
  const id = await gateway.refund(refund, patient);
  expect(await gateway.refund(refund, patient)).toBe(id);
  expect(await gateway.refund({ ...refund, key: "o-1.refund.2" }, patient)).not.toBe(id);
});
