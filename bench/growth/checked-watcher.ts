import type { EventBatch } from "../../gen/holdfast/v1/event_service_pb.js";
import type { HoldfastClient } from "../../src/client/index.ts";

/** A watcher by the generated client that looks into every commit. */
export interface CheckedWatcher {
  /** Commits so far. */
  readonly count: number;
  /** Ends the watch. Throws when a commit was missing, came twice or was not the order that it should have been. */
  stop(): Promise<void>;
}

/** What is watched. */
export interface CheckedWatch {
  readonly events: HoldfastClient["events"];
  readonly shopId: string;
  /** Of which every order has one unit. */
  readonly sku: string;
  readonly afterPosition: number;
  readonly maxCommitsPerMessage: number;
}

/** Watches a shop in which nothing happens but orders; resolves when the watch has been told that it is up to date. */
export async function watchAndCheck(watch: CheckedWatch): Promise<CheckedWatcher> {
  const { events, shopId, sku, afterPosition, maxCommitsPerMessage } = watch;
  const stopper = new AbortController();
  const ready = Promise.withResolvers<void>();
  let position = afterPosition;
  const take = (commit: EventBatch): void => {
    if (Number(commit.position) !== position + 1 || !isOrder(commit, sku)) {
      throw new Error(`a watcher of ${shopId} got something else after position ${position}: ${describe(commit)}`);
    }
    position += 1;
  };
  const follow = async (): Promise<void> => {
    const start = { case: "afterPosition", value: BigInt(afterPosition) } as const;
    const request = { shopId, start, maxCommitsPerMessage };
    for await (const { message } of events.watchEvents(request, { signal: stopper.signal })) {
      if (message.case === "batch") {
        take(message.value);
      } else if (message.case === "batches") {
        message.value.batches.forEach(take);
      } else if (message.case === "caughtUp") {
        ready.resolve();
      }
    }
  };
  const ended = follow().then(
    () => undefined,
    (error: unknown) => (stopper.signal.aborted ? undefined : error),
  );
  const failed = ended.then((error) => {
    throw error ?? new Error(`a watch of ${shopId} ended`);
  });
  failed.catch(() => {});
  await Promise.race([ready.promise, failed]);
  return {
    get count() {
      return position - afterPosition;
    },
    stop: async () => {
      stopper.abort();
      const error = await ended;
      if (error !== undefined) {
        throw error;
      }
    },
  };
}

/** One event: an order of one unit, at the commit's position. */
function isOrder({ position, commitId, events: [event, ...others] }: EventBatch, sku: string): boolean {
  if (event?.payload.case !== "orderPlaced" || others.length > 0 || commitId === "" || event.position !== position) {
    return false;
  }
  const { lines = [], position: orderPosition } = event.payload.value.order ?? {};
  return lines.length === 1 && lines[0]?.sku === sku && lines[0].quantity === 1 && orderPosition === position;
}

function describe({ position, events }: EventBatch): string {
  return `${events.map(({ payload }) => payload.case).join(", ")} at ${position}`;
}
