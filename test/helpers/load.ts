import { Code, ConnectError } from "@connectrpc/connect";
import type { PlaceOrderResponse } from "../../gen/holdfast/v1/order_service_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import type { Acknowledged } from "./audit.ts";
import type { Clients } from "./holdfast.ts";
import { uniqueId } from "./shop.ts";

/** What callers were told during a load. */
export interface LoadResult {
  /** One entry per request that was accepted. */
  readonly acknowledged: readonly Acknowledged[];
  /** Requests that found nothing left, or no money. */
  readonly refusedCount: number;
  /** Attempts that had to be repeated. */
  readonly retryCount: number;
}

/** How a load is made. */
export interface LoadOptions {
  /** The callers' Holdfasts; each caller changes from one to the next with every request. */
  readonly clients: readonly Clients[];
  readonly shopId?: string;
  /** Callers at the same time. */
  readonly callerCount: number;
  /** Requests of all callers together. */
  readonly requestCount: number;
  /** What a request buys. Default: one unit of `ps5`, by the users `u0` to `u9` from their wallets. */
  readonly order?: (index: number) => Order;
}

/** What one request of a load buys. */
export type Order = Omit<Parameters<Clients["orders"]["placeOrder"]>[0], "$typeName" | "$unknown">;

/** A load that is under way. */
export interface Load {
  readonly result: Promise<LoadResult>;
  /** Requests answered so far. */
  answeredCount(): number;
  /** Resolves when so many requests were answered: the moment to break something. */
  reached(count: number): Promise<void>;
}

/** The reasons that say "not now": the caller repeats the request, with its request id. */
const repeatedCodes = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.ResourceExhausted]);

/** How long one request is repeated, in milliseconds. */
const patienceMs = 20_000;

/** Has callers place orders, one after the other each, until the requests are used up. */
export function startLoad(options: LoadOptions): Load {
  const { clients, callerCount, requestCount, order = buyOne } = options;
  const acknowledged: Acknowledged[] = [];
  const watchers: { count: number; resolve: () => void }[] = [];
  const counts = { next: 0, answered: 0, refused: 0, retried: 0 };

  const call = async (index: number): Promise<void> => {
    const requestId = uniqueId("r");
    const request = { orderId: `o-${requestId}`, ...order(index), ...shopOf(options), requestId };
    const answer = await persist((attempt) => {
      counts.retried += attempt > 0 ? 1 : 0;
      const chosen = clients[(index + attempt) % clients.length] as Clients;
      return chosen.orders.placeOrder(request, { timeoutMs: 5000 });
    });
    if (answer === undefined) counts.refused += 1;
    else acknowledged.push(commitOf(answer));
    counts.answered += 1;
    for (const { resolve } of watchers.filter(({ count }) => count <= counts.answered)) resolve();
  };
  const caller = async (): Promise<void> => {
    while (counts.next < requestCount) {
      counts.next += 1;
      await call(counts.next - 1);
    }
  };
  const result = Promise.all(Array.from({ length: callerCount }, caller)).then(() => ({
    acknowledged,
    refusedCount: counts.refused,
    retryCount: counts.retried,
  }));
  return {
    result,
    answeredCount: () => counts.answered,
    reached: (count) =>
      Promise.race([
        new Promise<void>((resolve) => {
          watchers.push({ count, resolve });
          if (counts.answered >= count) resolve();
        }),
        result.then(() => {}),
      ]),
  };
}

function shopOf({ shopId }: LoadOptions): { shopId?: string } {
  return shopId === undefined ? {} : { shopId };
}

function buyOne(index: number): Order {
  return { userId: `u${index % 10}`, lines: [{ sku: "ps5", quantity: 1 }], paymentMethod: PaymentMethod.WALLET };
}

/** The commit an answer carries. */
export function commitOf({ commit }: Pick<PlaceOrderResponse, "commit">): Acknowledged {
  if (commit === undefined) throw new Error("the answer has no commit");
  return { requestId: commit.requestId, position: commit.position, commitId: commit.commitId };
}

/**
 * Makes a call until it is answered, as a good caller does: with the same request, after UNAVAILABLE, DEADLINE_EXCEEDED
 * and RESOURCE_EXHAUSTED. Undefined: it was refused for good (FAILED_PRECONDITION). Everything else is thrown.
 */
export async function persist<Answer>(call: (attempt: number) => Promise<Answer>): Promise<Answer | undefined> {
  const endsAt = performance.now() + patienceMs;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await call(attempt);
    } catch (error) {
      const { code } = ConnectError.from(error);
      if (code === Code.FailedPrecondition) return undefined;
      if (!(repeatedCodes.has(code) || isLostConnection(error)) || performance.now() > endsAt) throw error;
      await new Promise((resolve) => setTimeout(resolve, Math.min(20 * (attempt + 1), 200)));
    }
  }
}

/** Whether the server went away while it was being called. */
export function isLostConnection(error: unknown): boolean {
  return (
    error instanceof ConnectError &&
    error.details.length === 0 &&
    /ECONN|EPIPE|NGHTTP2|socket|closed/.test(error.message)
  );
}
