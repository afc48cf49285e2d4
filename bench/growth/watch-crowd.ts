import { create, toBinary } from "@bufbuild/protobuf";
import { EventService, WatchEventsRequestSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { LagCounts } from "./lag-counts.ts";
import { openWatchConnection } from "./watch-connection.ts";

/** Many watches of one shop, each from the same position on. */
export interface CrowdOptions {
  readonly port: number;
  readonly shopId: string;
  readonly watcherCount: number;
  readonly maxCommitsPerMessage: number;
  readonly afterPosition: number;
}

/** What a crowd got since it was asked before. */
export interface Deliveries {
  /** Commits, over all watchers. */
  readonly count: number;
  /** From the first of them until now. */
  readonly elapsedMs: number;
  /** Where the slowest watcher stands. */
  readonly leastPosition: number;
  /** From the decision of a commit until it came; NaN when none did. */
  readonly lagP50Ms: number;
  readonly lagP99Ms: number;
}

/** Many watchers. */
export interface Crowd {
  /** Counts from now on, and tells of what came before. Throws when a watch ended, or a commit did not follow its predecessor. */
  count(): Deliveries;
  /** Resolves when every watcher has come to a position, or when the time is over. */
  reach(position: number, timeoutMs: number): Promise<void>;
  close(): void;
}

/** Below what a server takes on one connection. */
const watchesPerConnection = 200;
/** Longer than any measurement: no bookmarks. */
const bookmarkInterval = { seconds: 3600n };

/** Opens the watches; resolves when every one has been told that it is up to date. */
export async function openCrowd(options: CrowdOptions): Promise<Crowd> {
  const { port, shopId, watcherCount, maxCommitsPerMessage, afterPosition } = options;
  const start = { case: "afterPosition", value: BigInt(afterPosition) } as const;
  const request = create(WatchEventsRequestSchema, { shopId, start, maxCommitsPerMessage, bookmarkInterval });
  const message = toBinary(WatchEventsRequestSchema, request);
  const path = `/${EventService.typeName}/${EventService.method.watchEvents.name}`;
  const crowd = new CountingCrowd(watcherCount, afterPosition);
  for (let from = 0; from < watcherCount; from += watchesPerConnection) {
    const listeners = crowd.listeners.slice(from, from + watchesPerConnection);
    crowd.closers.push(await openWatchConnection({ port, path, message }, listeners, crowd.fail));
  }
  await crowd.ready.promise;
  return crowd;
}

class CountingCrowd implements Crowd {
  readonly listeners;
  readonly closers: (() => void)[] = [];
  readonly ready = Promise.withResolvers<void>();
  readonly #positions: number[];
  #waitingCount: number;
  #failure: Error | undefined;
  #lags = new LagCounts();
  #firstMs = Number.NaN;
  #wanted = Number.POSITIVE_INFINITY;
  /** Watchers that have not come to `#wanted`. */
  #missingCount = 0;
  #reached = Promise.withResolvers<void>();

  constructor(watcherCount: number, afterPosition: number) {
    this.#positions = new Array(watcherCount).fill(afterPosition);
    this.#waitingCount = watcherCount;
    // Whoever opens the crowd hears of it, later.
    this.ready.promise.catch(() => {});
    this.listeners = this.#positions.map((_, index) => this.#listener(index));
  }

  #listener(index: number) {
    let isWaiting = true;
    return {
      onCommit: (position: number, timeMs: number): void => this.#take(index, position, timeMs),
      onCaughtUp: (): void => {
        this.#waitingCount -= isWaiting ? 1 : 0;
        isWaiting = false;
        if (this.#waitingCount === 0) {
          this.ready.resolve();
        }
      },
    };
  }

  #take(index: number, position: number, timeMs: number): void {
    const last = this.#positions[index] as number;
    if (position !== last + 1) {
      this.fail(new Error(`a watcher got position ${position} after ${last}`));
    }
    const nowMs = Date.now();
    if (this.#lags.total === 0) {
      this.#firstMs = nowMs;
    }
    this.#positions[index] = position;
    this.#lags.add(nowMs - timeMs);
    if (position === this.#wanted) {
      this.#missingCount -= 1;
      if (this.#missingCount === 0) {
        this.#reached.resolve();
      }
    }
  }

  readonly fail = (error: Error): void => {
    this.#failure ??= error;
    this.ready.reject(error);
    this.#reached.resolve();
  };

  count(): Deliveries {
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    const lags = this.#lags;
    this.#lags = new LagCounts();
    return {
      count: lags.total,
      elapsedMs: Date.now() - this.#firstMs,
      leastPosition: this.#positions.reduce((least, position) => Math.min(least, position)),
      lagP50Ms: lags.quantile(0.5),
      lagP99Ms: lags.quantile(0.99),
    };
  }

  async reach(position: number, timeoutMs: number): Promise<void> {
    this.#wanted = position;
    this.#missingCount = this.#positions.filter((each) => each < position).length;
    if (this.#missingCount === 0 || this.#failure !== undefined) {
      return;
    }
    this.#reached = Promise.withResolvers();
    const timer = setTimeout(this.#reached.resolve, timeoutMs);
    await this.#reached.promise;
    clearTimeout(timer);
  }

  close(): void {
    for (const close of this.closers) {
      close();
    }
  }
}
