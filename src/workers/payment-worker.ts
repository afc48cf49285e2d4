import { setTimeout as sleep } from "node:timers/promises";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { around } from "../crash-point.ts";
import type { PaymentObserver, PaymentOutcome } from "../metrics/payment-metrics.ts";
import {
  type Charge,
  chargeKey,
  keyForgottenMs,
  keyLifetimeMs,
  OutcomeUnknown,
  type PaymentGateway,
  refundKey,
  type UnknownKind,
} from "../payments/gateway.ts";
import { attemptCount, retryWaitMs } from "../payments/retry-policy.ts";
import { createSettlement } from "../payments/settlement.ts";
import type { FlushConnection } from "../postgres/connection.ts";
import {
  firstPayment,
  listPendingCharges,
  listPendingRefunds,
  type PaymentCursor,
  type PendingCharge,
  type PendingRefund,
  tryToLeadPayments,
} from "../postgres/payments.ts";
import type { Database } from "../postgres/schema.ts";
import { Refusal } from "../refusal.ts";
import { isStoreAway } from "../shop/outage.ts";
import type { Shops } from "../shop/shops.ts";
import type { Caller } from "../shop/waiters.ts";
import { PaymentQueue } from "./payment-queue.ts";

/**
 * Charges GATEWAY orders, and gives back what was refunded of them.
 *
 * Invariant: the gateway is asked only about what Postgres has, under keys that follow from it, and an order ends only with
 * an outcome that the gateway told. So a worker may be killed at any moment, and two may work at once: whoever comes next
 * finds the order pending, asks again under the same key, hears the same outcome and writes it once.
 *
 * Of all processes on a database one leads, by a session lock on a connection of its own. That saves requests; nothing
 * rests on it.
 */
export interface PaymentWorker {
  /**
   * Begins nothing any more and lets what is under way come to its end, for 10 s at most. What is left then, the next worker
   * finds pending.
   */
  stop(): Promise<void>;
}

/** What a payment worker needs. */
export interface PaymentWorkerOptions {
  readonly gateway: PaymentGateway;
  readonly shops: Shops;
  /** For the lock and for looking; nobody else uses it. */
  readonly connection: FlushConnection;
  readonly logger: Logger;
  /** HOLDFAST_PAYMENT_RETRY_MS: an unknown outcome is asked for again after 4 times this, 8 times ..., at most 60 times. */
  readonly retryMs: number;
  /** Payments at the same time. Default 16. */
  readonly concurrency?: number;
  /** How often is looked for pending payments when nothing wakes the worker, in milliseconds. Default 500. */
  readonly pollMs?: number;
  /** The time, in milliseconds since the epoch. Default: this machine's. */
  readonly now?: () => number;
  /** Told what the gateway says; default: nobody. */
  readonly onAsked?: PaymentObserver["asked"] | undefined;
  /** Whether it wants to hear the `traceparent` of who wanted a payment. Default false: it is not read. */
  readonly isTraced?: boolean;
}

type Job = { readonly charge: PendingCharge & Charge } | { readonly refund: PendingRefund };

/** Pending payments read at once. */
const pageCount = 200;
/** Looks follow each other at least so far apart, in milliseconds: one finds what many commits brought. */
const calmMs = 20;
/** The longest wait before an unknown outcome is asked for again, and the one after a refusal, in `retryMs`. */
const longestWait = 60;
const refusedWait = 300;
/** How long `stop` waits for payments that are under way, in milliseconds. */
const drainMs = 10_000;
/** What every commit of a GATEWAY order has in its events. */
const gatewayMark = '"payment_method":4';

/** Starts the payment worker of a process. */
export function startPaymentWorker(options: PaymentWorkerOptions): PaymentWorker {
  const { gateway, shops, connection, logger, retryMs, concurrency = 16, pollMs = 500, now = Date.now } = options;
  const { onAsked = () => {}, isTraced = false } = options;
  const ending = new AbortController();
  const caller = createCaller();
  const settlement = createSettlement(shops, caller);
  const bell = createBell(ending.signal);
  /** The connection that has the lock, by its number; 0 = none. */
  let leadingGeneration = 0;
  const alarmed = new Set<string>();

  const observed = async <Answer>(
    kind: "charge" | "refund",
    { traceParent }: PendingCharge | PendingRefund,
    outcomeOf: (answer: Answer) => PaymentOutcome,
    ask: () => Promise<Answer>,
  ): Promise<Answer> => {
    const beganAtMs = performance.now();
    try {
      const answer = await ask();
      onAsked(kind, outcomeOf(answer), performance.now() - beganAtMs, traceParent);
      return answer;
    } catch (error) {
      if (error instanceof OutcomeUnknown && error.kind !== "stopped") {
        onAsked(kind, error.kind, error.wasAsked ? performance.now() - beganAtMs : undefined, traceParent);
      }
      throw error;
    }
  };

  const charge = async (order: PendingCharge & Charge): Promise<void> => {
    // There is nothing to charge for an order that costs nothing, and no gateway would.
    const outcome =
      order.amountMinor === 0
        ? ({ outcome: "charged", chargeId: "" } as const)
        : await observed(
            "charge",
            order,
            ({ outcome }) => outcome,
            () => around("payments: charge", () => gateway.charge(order, ending.signal)),
          );
    await around("payments: settle charge", () =>
      outcome.outcome === "charged" ? settlement.confirm(order, outcome.chargeId) : settlement.cancel(order),
    ).catch((error) => acceptEnd(order, outcome.outcome, error));
  };

  const refund = async (pending: PendingRefund): Promise<void> => {
    const { shopId, orderId, refundNumber, chargeId, amountMinor } = pending;
    const isKeyOld = ageMs(pending) > keyLifetimeMs;
    const request = { key: refundKey(shopId, orderId, refundNumber), chargeId, amountMinor, isKeyOld };
    const refundId =
      amountMinor === 0
        ? ""
        : await observed(
            "refund",
            pending,
            () => "refunded",
            () => around("payments: refund", () => gateway.refund(request, ending.signal)),
          );
    await around("payments: settle refund", () => settlement.settleRefund(pending, refundId));
  };

  /** An order that another worker ended, or that moved on since, is settled; charged and cancelled must never come together. */
  const acceptEnd = (order: PendingCharge, outcome: string, error: unknown): void => {
    if (!(error instanceof Refusal) || error.reason !== "ORDER_STATE_INVALID") {
      throw error;
    }
    const { shopId, orderId } = order;
    const { state } = error.details.metadata ?? {};
    const isContradiction = (outcome === "charged") === (state === "CANCELLED");
    logger[isContradiction ? "error" : "info"](
      { shop: shopId, order: orderId, outcome, state },
      "an order had ended already",
    );
  };

  const run = async (job: Job, round: number): Promise<number | undefined> => {
    if (ending.signal.aborted) {
      return 0;
    }
    try {
      await ("charge" in job ? charge(job.charge) : refund(job.refund));
      return undefined;
    } catch (error) {
      const kind = error instanceof OutcomeUnknown ? error.kind : undefined;
      report(job, kind, error);
      const wait = Math.min(retryWaitMs({ retryMs }, attemptCount + round - 1), longestWait * retryMs);
      return kind === "refused" ? refusedWait * retryMs : wait;
    }
  };

  const report = (job: Job, kind: UnknownKind | undefined, error: unknown): void => {
    if (kind === "stopped") {
      return;
    }
    const { shopId, orderId } = "charge" in job ? job.charge : job.refund;
    const about = { err: error, shop: shopId, order: orderId };
    const isRefused = error instanceof Refusal && ["SHOP_UNAVAILABLE", "SHOP_FENCED"].includes(error.reason);
    if (kind === undefined && (isRefused || isStoreAway(error))) {
      logger.debug(about, "a payment waits until the stores are there");
    } else if (kind === "refused") {
      logger.error(about, "the gateway does not take a payment: it stays pending until somebody has looked");
    } else if (kind === undefined && (error as Partial<Refusal>).details?.retryMs === undefined) {
      logger.error(about, "a payment cannot be settled");
    } else {
      logger.warn(about, "the outcome of a payment is not known yet");
    }
  };

  const ageMs = ({ createTime }: PendingCharge | PendingRefund): number => now() - createTime.getTime();

  /** The gateway may have forgotten the key: asked once more, it could charge twice. It is looked for when that is safe. */
  const alarm = (key: string, { shopId, orderId, createTime }: PendingCharge): void => {
    if (!alarmed.has(key)) {
      alarmed.add(key);
      const message =
        "a payment is pending for so long that the gateway may not know its key: it is only looked for, and not charged any more";
      logger.error({ shop: shopId, order: orderId, since: createTime }, message);
    }
  };

  const queue = new PaymentQueue<Job>({ concurrency, run, onRoom: bell.ring });
  const charges = createLook<PendingCharge>(listPendingCharges, isTraced, queue, (order) => {
    const key = chargeKey(order);
    const age = ageMs(order);
    if (age > keyLifetimeMs) {
      alarm(key, order);
    }
    if (age <= keyLifetimeMs || age > keyForgottenMs) {
      queue.offer(key, { charge: { ...order, isKeyOld: age > keyForgottenMs } });
    }
  });
  const refunds = createLook<PendingRefund>(listPendingRefunds, isTraced, queue, (pending) =>
    queue.offer(refundKey(pending.shopId, pending.orderId, pending.refundNumber), { refund: pending }),
  );

  /** Taken in turns: whatever fills the queue first leaves no room for the others. */
  const looks = [refunds, charges];

  const look = async (): Promise<void> => {
    const generation = await around("payments: connect", () => connection.ensureConnected());
    if (generation !== leadingGeneration) {
      leadingGeneration = 0;
      queue.clear();
      const isLeading = await around("payments: lead", () => tryToLeadPayments(connection.db));
      if (!isLeading || connection.generation !== generation) {
        return;
      }
      leadingGeneration = generation;
      logger.debug("this process charges GATEWAY orders");
    }
    for (const lookThrough of looks) {
      await around("payments: list", () => lookThrough(connection.db));
    }
    looks.reverse();
  };

  const work = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      await look().catch((error) => {
        leadingGeneration = 0;
        logger[isStoreAway(error) ? "debug" : "warn"]({ err: error }, "pending payments could not be read");
      });
      await bell.wait(calmMs, pollMs);
    }
  };
  const working = work();

  shops.onDurable((entries) => {
    if (leadingGeneration !== 0 && entries.some(({ events }) => events.includes(gatewayMark))) {
      bell.ring();
    }
  });

  return {
    stop: async () => {
      ending.abort();
      queue.clear();
      await Promise.race([queue.idle(), sleep(drainMs, undefined, { ref: false })]);
      caller.end();
      // Once for a look that waits for its answer, and once for one that was just connecting.
      await connection.close();
      await working;
      await connection.close();
    },
  };
}

/** A caller that is patient until it ends. */
function createCaller(): Caller & { end(): void } {
  let ended = false;
  return {
    get ended() {
      return ended;
    },
    deadlineMs: Number.POSITIVE_INFINITY,
    throwIfEnded: () => {
      if (ended) {
        throw new OutcomeUnknown("stopped", "stopped before it was settled");
      }
    },
    end: () => {
      ended = true;
    },
  };
}

/** Something to wait for that rings at once when it rang since the last wait. */
function createBell(ending: AbortSignal) {
  let rang = false;
  let wake: () => void = () => {};
  ending.addEventListener("abort", () => wake());
  /** Resolves after `ms`, or with the next ring where that counts, or at the end. */
  const pause = (ms: number, isWoken: boolean): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        if (isWoken || ending.aborted) {
          clearTimeout(timer);
          resolve();
        }
      };
      if (ending.aborted || (isWoken && rang)) {
        wake();
      }
    });
  return {
    ring: (): void => {
      rang = true;
      wake();
    },
    /** Waits for a ring, at least `leastMs` and at most `mostMs`. */
    wait: async (leastMs: number, mostMs: number): Promise<void> => {
      await pause(leastMs, false);
      await pause(mostMs - leastMs, true);
      rang = false;
    },
  };
}

/**
 * A look through one list of pending payments, page by page: it ends where the queue is full, and goes on there the next
 * time, so that what cannot be settled now does not keep others from their turn.
 */
function createLook<Payment extends Omit<PaymentCursor, "refundNumber">>(
  list: (db: Kysely<Database>, after: PaymentCursor, count: number, isTraced: boolean) => Promise<Payment[]>,
  isTraced: boolean,
  queue: PaymentQueue<Job>,
  take: (payment: Payment) => void,
): (db: Kysely<Database>) => Promise<void> {
  let after = firstPayment;
  return async (db) => {
    do {
      queue.beginLook();
      const page = await list(db, after, pageCount, isTraced);
      for (const payment of page) {
        if (!queue.hasRoom) {
          return;
        }
        take(payment);
        after = { refundNumber: 0, ...payment };
      }
      if (page.length < pageCount) {
        after = firstPayment;
        return;
      }
    } while (queue.hasRoom);
  };
}
