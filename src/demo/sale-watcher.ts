import { setTimeout as sleep } from "node:timers/promises";
import type { EventBatch } from "../../gen/holdfast/v1/event_service_pb.js";
import type { HoldfastClient } from "../client/index.ts";
import { sku } from "./flash-sale.ts";

/** What a watcher of the sale has seen so far. */
export interface SaleWatcher {
  readonly orderCount: number;
  readonly unitCount: number;
  /** Commits that came twice or out of order. */
  readonly disorderCount: number;
  /** Waits until everything up to a position has been seen; false when that takes longer than `timeoutMs`. */
  hasSeen(position: number, timeoutMs: number): Promise<boolean>;
  stop(): Promise<void>;
}

/** Where to watch from. */
export interface SaleWatcherOptions {
  readonly client: HoldfastClient;
  readonly shopId: string;
  readonly afterPosition: number;
}

const bookmarkInterval = { seconds: 0n, nanos: 50_000_000 };

/** Watches the sale's orders. */
export function watchSale({ client, shopId, afterPosition }: SaleWatcherOptions): SaleWatcher {
  const stopper = new AbortController();
  const { signal } = stopper;
  let position = afterPosition;
  let wake = Promise.withResolvers<void>();
  const seen = { orderCount: 0, unitCount: 0, disorderCount: 0 };

  const moveTo = (next: bigint): void => {
    position = Math.max(position, Number(next));
    wake.resolve();
    wake = Promise.withResolvers();
  };
  const take = (batch: EventBatch): void => {
    seen.disorderCount += Number(batch.position) > position ? 0 : 1;
    for (const { payload } of batch.events) {
      if (payload.case === "orderPlaced") {
        seen.orderCount += 1;
        seen.unitCount += Number(payload.value.order?.itemCount);
      }
    }
    moveTo(batch.position);
  };
  const watch = async (): Promise<void> => {
    const start = { case: "afterPosition", value: BigInt(position) } as const;
    const filter = { eventTypes: ["order_placed"], subjects: [`sku:${sku}`] };
    const request = { shopId, start, ...filter, bookmarkInterval, maxCommitsPerMessage: 1000 };
    for await (const message of client.watch(request, { signal })) {
      if (message.case === "batch") {
        take(message.value);
      } else {
        moveTo(message.value.position);
      }
    }
  };
  // However it ended: what was not seen shows in the audit.
  const ended = watch().catch(() => {});

  return {
    get orderCount() {
      return seen.orderCount;
    },
    get unitCount() {
      return seen.unitCount;
    },
    get disorderCount() {
      return seen.disorderCount;
    },
    hasSeen: async (wanted, timeoutMs) => {
      const late = sleep(timeoutMs, "late", { ref: false });
      while (position < wanted) {
        if ((await Promise.race([wake.promise, late])) === "late") {
          return false;
        }
      }
      return true;
    },
    stop: async () => {
      stopper.abort();
      await ended;
    },
  };
}
