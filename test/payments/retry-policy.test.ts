import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  type ChargeOutcome,
  OutcomeUnknown,
  type PaymentGateway,
  type UnknownKind,
} from "../../src/payments/gateway.ts";
import { defaultGatewayTimes, retryWaitMs, withRetries } from "../../src/payments/retry-policy.ts";

/** What an attempt does: charges, fails in a way, or never answers. */
type Step = "charged" | "declined" | "never" | UnknownKind;

const price = { amountMinor: 100, currencyCode: "USD" };
const charge = { shopId: "default", orderId: "o1", userId: "", ...price, isKeyOld: false };
const patient = new AbortController().signal;

/** A gateway that follows a script, the last step for ever, and notes when it was asked. */
function scripted(...steps: Step[]) {
  const askedAtMs: number[] = [];
  const gateway: PaymentGateway = {
    charge: async (): Promise<ChargeOutcome> => {
      const step = steps[Math.min(askedAtMs.length, steps.length - 1)];
      askedAtMs.push(Date.now());
      if (step === "never") await new Promise(() => {});
      if (step === "charged") return { outcome: "charged", chargeId: "ch_1" };
      if (step === "declined") return { outcome: "declined", reason: "no" };
      throw new OutcomeUnknown(step as UnknownKind, "scripted");
    },
    refund: async () => {
      askedAtMs.push(Date.now());
      throw new OutcomeUnknown("refused", "scripted");
    },
  };
  return { gateway, askedAtMs };
}

/** Runs time until a request has its answer: the outcome, or the kind of unknown. */
async function settle(asked: Promise<ChargeOutcome>): Promise<string> {
  let answer: string | undefined;
  asked.then(
    ({ outcome }) => {
      answer = outcome;
    },
    (error: unknown) => {
      answer = error instanceof OutcomeUnknown ? error.kind : String(error);
    },
  );
  for (let step = 0; answer === undefined && step < 1000; step += 1) await vi.advanceTimersByTimeAsync(50);
  return answer ?? "no answer";
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("withRetries", () => {
  test.each<[Step[], number, string]>([
    [["charged"], 1, "charged"],
    [["declined"], 1, "declined"],
    [["refused"], 1, "refused"],
    [["unavailable", "charged"], 2, "charged"],
    [["conflict", "conflict", "charged"], 3, "charged"],
    [["unavailable", "declined"], 2, "declined"],
    [["unavailable", "refused"], 2, "refused"],
    [["unavailable"], 3, "unavailable"],
    [["conflict"], 3, "conflict"],
    [["never"], 3, "unavailable"],
    [["never", "never", "charged"], 3, "charged"],
  ])("meets %j with %d attempts and tells %s", async (steps, count, answer) => {
    const { gateway, askedAtMs } = scripted(...steps);
    expect(await settle(withRetries(gateway).charge(charge, patient))).toBe(answer);
    expect(askedAtMs).toHaveLength(count);
  });

  test("waits about one second and about two between the attempts", async () => {
    const { gateway, askedAtMs } = scripted("unavailable");
    await settle(withRetries(gateway).charge(charge, patient));
    const [first = 0, second = 0, third = 0] = askedAtMs;
    expect(second - first).toBeGreaterThanOrEqual(750);
    expect(second - first).toBeLessThanOrEqual(1250);
    expect(third - second).toBeGreaterThanOrEqual(1500);
    expect(third - second).toBeLessThanOrEqual(2500);
  });

  test("gives an attempt three seconds", async () => {
    const { gateway, askedAtMs } = scripted("never", "charged");
    await settle(withRetries(gateway).charge(charge, patient));
    const [first = 0, second = 0] = askedAtMs;
    expect(second - first).toBeGreaterThanOrEqual(3750);
    expect(second - first).toBeLessThanOrEqual(4250);
  });

  test("ends after thirty seconds, whatever the settings of the attempts", async () => {
    const times = { attemptTimeoutMs: 60_000, retryMs: 1000, breakMs: 60_000, totalMs: 30_000 };
    const startedMs = Date.now();
    expect(await settle(withRetries(scripted("never").gateway, times).charge(charge, patient))).toBe("unavailable");
    expect(Date.now() - startedMs).toBeLessThanOrEqual(30_050);
  });

  test("waits differ, so that callers who failed together do not come back together", () => {
    const waits = new Set(Array.from({ length: 20 }, () => retryWaitMs({ retryMs: 1000 }, 3)));
    expect(waits.size).toBeGreaterThan(1);
    for (const wait of waits) expect(Math.abs(wait - 4000)).toBeLessThanOrEqual(1000);
  });

  test("tells the error of a refund", async () => {
    const refund = { key: "k", chargeId: "ch_1", amountMinor: 1, isKeyOld: false };
    const asked = withRetries(scripted("refused").gateway).refund(refund, patient);
    await expect(asked).rejects.toMatchObject({ kind: "refused" });
  });
});

describe("the breaker", () => {
  const once = { attemptTimeoutMs: 3000, retryMs: 1000, breakMs: 60_000, totalMs: 30_000 };

  test("opens with the fifth failure among ten attempts, and not before there were ten", async () => {
    const { gateway, askedAtMs } = scripted(...Array<Step>(5).fill("charged"), "unavailable");
    const retrying = withRetries(gateway, once);
    for (let index = 0; index < 5; index += 1) await settle(retrying.charge(charge, patient));
    await settle(retrying.charge(charge, patient));
    expect(askedAtMs, "3 failures of 8").toHaveLength(8);
    expect(await settle(retrying.charge(charge, patient))).toBe("unavailable");
    expect(askedAtMs, "the 10th attempt is the 5th failure").toHaveLength(10);
    expect(await settle(retrying.charge(charge, patient))).toBe("unavailable");
    expect(askedAtMs, "nothing is asked any more").toHaveLength(10);
  });

  test("tells whether a request was made at all before it was open", async () => {
    const { gateway, askedAtMs } = scripted(...Array<Step>(5).fill("charged"), "unavailable");
    const retrying = withRetries(gateway, once);
    for (let index = 0; index < 6; index += 1) await settle(retrying.charge(charge, patient));
    const wasAsked = async () => {
      const asked = retrying.charge(charge, patient);
      await settle(asked);
      return asked.then(
        () => undefined,
        (error: OutcomeUnknown) => error.wasAsked,
      );
    };
    expect(await wasAsked(), "its second attempt is the 5th failure, and there is no third").toBe(true);
    expect(await wasAsked()).toBe(false);
    expect(askedAtMs).toHaveLength(10);
  });

  test("stays closed while fewer than half of the attempts fail", async () => {
    const { gateway, askedAtMs } = scripted(
      ...Array.from({ length: 40 }, (_, index): Step => (index % 5 < 2 ? "unavailable" : "charged")),
    );
    const retrying = withRetries(gateway, once);
    while (askedAtMs.length < 40) expect(await settle(retrying.charge(charge, patient))).toBe("charged");
  });

  test.each<Step>(["declined", "refused", "conflict"])("does not take '%s' for a failure", async (step) => {
    const { gateway, askedAtMs } = scripted(step);
    const retrying = withRetries(gateway, once);
    for (let index = 0; index < 12; index += 1) await settle(retrying.charge(charge, patient));
    expect(askedAtMs.length).toBeGreaterThanOrEqual(12);
    expect(await settle(retrying.charge(charge, patient))).toBe(step);
  });

  test("lets one trial through after a minute: a failure closes the door again, an answer opens it", async () => {
    const { gateway, askedAtMs } = scripted(...Array<Step>(11).fill("unavailable"), "charged");
    const retrying = withRetries(gateway, once);
    for (let index = 0; index < 4; index += 1) await settle(retrying.charge(charge, patient));
    expect(askedAtMs).toHaveLength(10);
    await vi.advanceTimersByTimeAsync(61_000);
    const together = [1, 2, 3].map(() => settle(retrying.charge(charge, patient)));
    expect(new Set(await Promise.all(together))).toEqual(new Set(["unavailable"]));
    expect(askedAtMs, "one trial for all three").toHaveLength(11);
    await vi.advanceTimersByTimeAsync(61_000);
    expect(await settle(retrying.charge(charge, patient))).toBe("charged");
    expect(await settle(retrying.charge(charge, patient))).toBe("charged");
    expect(askedAtMs).toHaveLength(13);
  });
});

describe("stopping", () => {
  test("ends a wait between attempts at once, and begins no further one", async () => {
    const { gateway, askedAtMs } = scripted("unavailable");
    const ending = new AbortController();
    const asked = withRetries(gateway).charge(charge, ending.signal);
    const answer = settle(asked);
    await vi.advanceTimersByTimeAsync(100);
    ending.abort();
    expect(await answer).toBe("stopped");
    await vi.advanceTimersByTimeAsync(30_000);
    expect(askedAtMs).toHaveLength(1);
  });

  test("ends a wait after an attempt that was too late", async () => {
    const { gateway, askedAtMs } = scripted("never");
    const ending = new AbortController();
    const answer = settle(withRetries(gateway).charge(charge, ending.signal));
    await vi.advanceTimersByTimeAsync(3100);
    ending.abort();
    expect(await answer).toBe("stopped");
    expect(askedAtMs).toHaveLength(1);
  });

  test("lets an attempt that is under way come to its answer", async () => {
    let answer: (outcome: ChargeOutcome) => void = () => {};
    const gateway: PaymentGateway = {
      charge: () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
      refund: () => Promise.reject(new Error("not asked for")),
    };
    const ending = new AbortController();
    const asked = withRetries(gateway).charge(charge, ending.signal);
    await vi.advanceTimersByTimeAsync(100);
    ending.abort();
    answer({ outcome: "charged", chargeId: "ch_1" });
    expect(await settle(asked)).toBe("charged");
  });

  test("begins nothing when it has come already", async () => {
    const { gateway, askedAtMs } = scripted("charged");
    expect(await settle(withRetries(gateway).charge(charge, AbortSignal.abort()))).toBe("stopped");
    expect(askedAtMs).toEqual([]);
  });
});

test("a gateway with retries says when it is left alone, tried and asked again", async () => {
  const { gateway } = scripted(...Array<Step>(10).fill("unavailable"), "charged");
  const states: string[] = [];
  const { charge: ask } = withRetries(gateway, defaultGatewayTimes, (state) => states.push(state));
  for (let request = 0; request < 4; request += 1) await settle(ask(charge, patient));
  expect(states).toEqual(["open"]);
  await vi.advanceTimersByTimeAsync(60_000);
  await settle(ask(charge, patient));
  expect(states).toEqual(["open", "half_open", "closed"]);
});
