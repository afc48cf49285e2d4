import type { Registry } from "prom-client";
import { secondsBuckets } from "./buckets.ts";
import { createGauge } from "./gauge.ts";
import { type Count, createCounter, createHistogram } from "./series.ts";

/** What became of a request to the gateway; the last three leave the payment pending, and it is asked for again. */
export type PaymentOutcome = "charged" | "declined" | "refunded" | "unavailable" | "conflict" | "refused";

/** Whether the gateway is asked: `open` means that it failed too often, `half_open` that one request is to show. */
export type BreakerState = "closed" | "half_open" | "open";

/** Is told what the payment worker does. */
export interface PaymentObserver {
  /**
   * The gateway was asked, all attempts together, and so long it took, in milliseconds. Undefined: it should have been, and the
   * breaker was open. `traceParent` is that of the call which wanted it, as far as it is known.
   */
  readonly asked: (
    kind: "charge" | "refund",
    outcome: PaymentOutcome,
    ms: number | undefined,
    traceParent: string | null,
  ) => void;
  readonly breakerChanged: (state: BreakerState) => void;
}

const outcomes = {
  charge: ["charged", "declined", "unavailable", "conflict", "refused"],
  refund: ["refunded", "unavailable", "conflict", "refused"],
} as const;

/** Counts what the gateway says. */
export function createPaymentMetrics(registry: Registry): PaymentObserver {
  const payments = createCounter({
    registry,
    name: "holdfast_payments_total",
    help: "Requests to the payment gateway, attempts of one taken together, by what came of them; those that the breaker stopped too.",
  });
  const seconds = createHistogram({
    registry,
    name: "holdfast_payment_seconds",
    help: "How long they took, but for those that the breaker stopped.",
    buckets: secondsBuckets,
  });
  const [byOutcome, byKind] = [
    new Map<string, Count>(),
    { charge: seconds({ kind: "charge" }), refund: seconds({ kind: "refund" }) },
  ];
  for (const [kind, names] of Object.entries(outcomes)) {
    for (const outcome of names) {
      byOutcome.set(`${kind} ${outcome}`, payments({ kind, outcome }));
    }
  }
  let breaker: BreakerState = "closed";
  createGauge({
    registry,
    name: "holdfast_payment_breaker",
    help: "1 for the state that the breaker before the payment gateway is in: while it is open, the gateway is not asked.",
    read: () => ({
      closed: Number(breaker === "closed"),
      half_open: Number(breaker === "half_open"),
      open: Number(breaker === "open"),
    }),
    label: "state",
  });
  return {
    asked: (kind, outcome, ms) => {
      (byOutcome.get(`${kind} ${outcome}`) as Count).count += 1;
      if (ms !== undefined) {
        byKind[kind].observe(ms / 1000);
      }
    },
    breakerChanged: (state) => {
      breaker = state;
    },
  };
}
