import { bulkhead } from "cockatiel";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { around } from "../crash-point.ts";
import { ForgetfulMap } from "../forgetful-map.ts";
import type { FlushConnection } from "../postgres/connection.ts";
import { isConnectionLost, isPostgresDown } from "../postgres/errors.ts";
import type { ShopHead } from "../postgres/flush-statement.ts";
import type { PostgresProbe } from "../postgres/probe.ts";
import type { Database } from "../postgres/schema.ts";
import { listHeads, type SweptShop } from "../postgres/shops.ts";
import type { Sockets } from "../postgres/sockets.ts";
import { listShopsToRenew } from "../postgres/subscriptions.ts";
import { Admission } from "./admission.ts";
import { type Consumers, createConsumers } from "./consumers.ts";
import { Fenced } from "./fence.ts";
import { createHints } from "./hints.ts";
import { shopKeys } from "./keys.ts";
import type { LogEntry } from "./log-entry.ts";
import { isStoreAway } from "./outage.ts";
import { createPast, type Past } from "./past.ts";
import { RedisUnavailable, type ScriptRunner } from "./redis.ts";
import type { Scripts } from "./scripts.ts";
import { Shop } from "./shop.ts";
import { type ShopObserver, silentShopObserver } from "./shop-observer.ts";
import { createStoreState, type StoreState } from "./store-state.ts";
import { StoreUnavailable, unavailable } from "./store-unavailable.ts";
import { WatchHub } from "./watch-hub.ts";

/** What the shops of a process need; every limit is explained where it is used, in `Shop` and `WatchHub`. */
export interface ShopsOptions {
  readonly scripts: Scripts;
  readonly redis: ScriptRunner;
  readonly db: Kysely<Database>;
  readonly flushConnections: readonly FlushConnection[];
  readonly probe: Pick<PostgresProbe, "ask">;
  readonly sockets: Pick<Sockets, "outageBegins" | "outageEnds">;
  readonly durability: "postgres" | "redis";
  /** Connections of `db`. */
  readonly postgresPoolCount: number;
  readonly memoryCount: number;
  readonly requestRetentionMs: number;
  readonly clock?: () => number;
  /** Told what shops do; default: nobody. */
  readonly observer?: ShopObserver | undefined;
  readonly logger: Logger;
  /** Commits a flush takes at most; default 500. */
  readonly maxBatchCommits?: number;
  /** Durable commits that stay in a shop's log; default 10,000. */
  readonly marginCommits?: number;
  /** Un-flushed commits at which a shop takes no more; less than the margin. */
  readonly maxBacklogCommits: number;
  /** Calls between Redis and Postgres at a time in this process, at most. */
  readonly maxInFlight: number;
  /** Calls of one shop that wait for their turn in this process, at most. */
  readonly maxWaiting: number;
  /** Durable commits kept in memory for a shop's watchers; default 2,000. */
  readonly watchedCommits?: number;
}

/** All shops, as this process serves them. */
export interface Shops {
  /** A shop by id; whether it exists shows with its first use. */
  get(shopId: string): Shop;
  /** A shop that this process has served; undefined = it has not, whether it exists or not. */
  find(shopId: string): Shop | undefined;
  /** The watchers' side of a shop. */
  hub(shopId: string): WatchHub;
  /** What watchers read that are behind their hub. */
  readonly past: Past;
  /** The shops that this process has served since its start. */
  readonly served: Iterable<Shop>;
  /** The watchers' sides of the shops that are watched here. */
  readonly hubs: Iterable<WatchHub>;
  /** Whether a store answered last time. */
  isUp(store: "Redis" | "Postgres"): boolean;
  /** The consumers watched in this process. */
  readonly consumers: Consumers;
  /** Who may go on to Redis. */
  readonly admission: Admission;
  readonly db: Kysely<Database>;
  readonly scripts: Scripts;
  /** How long a request id is kept in Postgres, in milliseconds. */
  readonly requestRetentionMs: number;
  /** Whether callers are answered only when Postgres has their commit. */
  readonly acksDurable: boolean;
  /** Commits of a shop that Postgres does not have yet, at which it takes no more. */
  readonly maxBacklogCommits: number;
  /** Lets go of a shop that turned out not to exist. */
  forget(shopId: string): void;
  /** A store that did not answer the last time it was asked; undefined when both did. */
  awayStore(): "Redis" | "Postgres" | undefined;
  /** Refuses a call that needs a store which is away. */
  require(store: "Redis" | "Postgres"): void;
  /** What `work` asks Redis for; undefined when Redis is away or goes away meanwhile: then the outcome does not matter. */
  whileRedisAnswers<Value>(work: () => Promise<Value>): Promise<Value | undefined>;
  /** The time for what is answered without Redis, in milliseconds since the epoch. */
  nowMs(): number;
  /** Calls `listener` when a store went away or came back. */
  onStoreChange(listener: () => void): void;
  /** Calls `listener` with commits that this process made durable, of any shop, right after it did. It must be quick. */
  onDurable(listener: (entries: readonly LogEntry[]) => void): void;
  /** Ends what is in flight and stops the sweeper. */
  close(): Promise<void>;
}

/** How often every shop is looked at: what a dead process left is flushed, a Postgres behind is healed, due holds expire, due subscriptions renew. */
const sweepMs = 1000;
/**
 * Shops that Redis lost and that are opened at a time although nobody calls: the rest of the pool is for those that somebody calls.
 * Measured with 300 shops (2 cores, November 2026): the first answer of one of them took 1,391 and 1,623 ms when all began at once.
 */
const maxSweptOpenings = 4;
/** Pages of the past that are read for watchers at a time. */
const maxPastReads = 4;
/** How long after an answer a store is asked again whether it is there, in milliseconds. */
const lookMs = 250;

/** Creates the shops of this process and starts their sweeper. */
export async function createShops(options: ShopsOptions): Promise<Shops> {
  const { db, redis, scripts, logger, flushConnections, observer = silentShopObserver } = options;
  const halfOfPool = Math.max(1, Math.floor(options.postgresPoolCount / 2));
  const past = createPast(db, { maxReads: Math.min(maxPastReads, halfOfPool) });
  const shops = new Map<string, Shop>();
  const hubs = new Map<string, WatchHub>();
  const sweptPositions = new Map<string, number>();
  const durableListeners: ((entries: readonly LogEntry[]) => void)[] = [];
  const storeListeners: (() => void)[] = [];
  const onChange = (): void => {
    for (const listener of storeListeners) {
      listener();
    }
  };
  const onPostgresChange = (): void => {
    if (postgres.isUp) {
      options.sockets.outageEnds();
    } else {
      options.sockets.outageBegins();
      for (const shop of shops.values()) {
        shop.postgresWentAway();
      }
    }
    onChange();
  };
  const postgres: StoreState = createStoreState({ store: "Postgres", onChange: onPostgresChange, logger });
  const waitForRedis = new ForgetfulMap<number, () => void>();
  let waitCount = 0;
  const onRedisChange = (): void => {
    waitForRedis.forEach((leave) => {
      leave(); // nobody waits here while it is away, so there is none when it comes back
    });
    if (!redisState.isUp) {
      for (const shop of shops.values()) {
        shop.redisWentAway();
      }
    }
    onChange();
  };
  const redisState: StoreState = createStoreState({ store: "Redis", onChange: onRedisChange, logger });
  const admission = new Admission(options);
  const stateOf = (store: "Redis" | "Postgres"): StoreState => (store === "Redis" ? redisState : postgres);
  const deps = {
    maxBatchCommits: 500,
    marginCommits: 10_000,
    ...options,
    admission,
    observer,
    postgres,
    redisState,
    onDurable: (shopId: string, before: ShopHead, entries: readonly LogEntry[]) => {
      hints.tell(shopId, (entries.at(-1) as LogEntry).position);
      hubs.get(shopId)?.offer(before, entries);
      for (const listener of durableListeners) {
        listener(entries);
      }
    },
    onUnknown: (shopId: string) => {
      // One that is open exists: it was created after somebody looked in vain.
      if (shops.get(shopId)?.isOpen !== true) {
        shops.delete(shopId);
      }
    },
  };

  const get = (shopId: string): Shop => {
    let shop = shops.get(shopId);
    if (shop === undefined) {
      shop = new Shop(shopId, deps, flushConnections[shops.size % flushConnections.length] as FlushConnection);
      shops.set(shopId, shop);
    }
    return shop;
  };

  const hints = await createHints(redis, (shopId, position) => {
    hubs.get(shopId)?.hint(position);
    shops.get(shopId)?.backlog.noteDurable(position);
  });

  const consumers = await createConsumers({ db, redis, logger });

  const flush = (shopId: string): Promise<void> => around("sweep: flush", () => get(shopId).sweep());

  const openings = bulkhead(Math.min(maxSweptOpenings, halfOfPool), Number.POSITIVE_INFINITY);
  const openingLater = new Map<string, Promise<void>>();

  /** Opens a shop that Redis lost, when it is its turn. Sweeps do not wait for that: a caller may open it before. */
  const openLater = (shopId: string): void => {
    if (openingLater.has(shopId)) {
      return;
    }
    const open = async (): Promise<void> => {
      if (!closed) {
        await flush(shopId);
      }
    };
    const opened = openings
      .execute(open)
      .catch((error) => sayUnswept(shopId, error))
      .finally(() => openingLater.delete(shopId));
    openingLater.set(shopId, opened);
  };

  /** A fence has an alarm of its own. */
  const sayUnswept = (shopId: string, error: unknown): void =>
    logger[isStoreAway(error) || error instanceof Fenced ? "debug" : "warn"](
      { err: error, shop: shopId },
      "a shop could not be swept",
    );

  const sweepShop = async (
    { shopId, position, commitId, openCount }: SweptShop,
    hasRenewals: boolean,
  ): Promise<void> => {
    hubs.get(shopId)?.hint(position);
    // Nothing is flushed after a loss was accepted: this is how watchers learn that history is another one now.
    hubs.get(shopId)?.offer({ position, commitId }, []);
    if (!redisState.isUp) {
      return;
    }
    const redisGeneration = redis.generation;
    const keys = shopKeys(shopId);
    const peeked = await around("sweep: peek", () => redis.aside(scripts.peek, keys, []));
    const [epoch, logPosition, logCommitId, nextDueMs, redisMs, nextRenewalMs, , flushed] = peeked as [
      string,
      number,
      string,
      number,
      number,
      number,
      number,
      number,
    ];
    const isAllDurable = logPosition === position && logCommitId === commitId;
    const known = shops.get(shopId);
    known?.backlog.noteDurable(position);
    if (isAllDurable) {
      known?.confirm({ position, commitId }, redisGeneration);
    }
    // Flushes note it now and then only. What was durable is noted also when Postgres lost it meanwhile: OPEN fences the shop by it.
    // A log that ends before it lost its tail, or is of a history that began anew: how far that is, is for OPEN to say.
    // What a process knows of another epoch may be of a history that was given up.
    const durablePosition =
      known !== undefined && String(known.epoch) === epoch ? known.backlog.durablePosition : position;
    if (flushed < durablePosition && durablePosition <= logPosition) {
      const trim = [epoch, durablePosition, deps.marginCommits];
      await around("sweep: trim", () => redis.aside(scripts.trimLog, keys, trim));
    }
    const isNothingWaiting = isAllDurable || logPosition === 0;
    if (isNothingWaiting) {
      known?.nothingWaits(position);
    }
    known?.fence.end(position, isNothingWaiting);
    if (known?.fence.alarm !== undefined) {
      // Its stores may agree again: an opening or a flush tells, and nothing else is done to it.
      await around("sweep: flush fenced", () => known.sweep());
      return;
    }
    if (logPosition === 0 && openCount === 0 && !hasRenewals) {
      return; // nobody used this shop since Redis started, and nothing of it can be waiting or become due
    }
    const swept = sweptPositions.get(shopId) ?? 0;
    sweptPositions.set(shopId, position);
    // A head that moved on since the last sweep has somebody who flushes; one that stands still or went back has not.
    if (!isAllDurable && position <= swept) {
      if (logPosition === 0) {
        openLater(shopId);
        return;
      }
      await flush(shopId);
    }
    const nowMs = options.clock?.() ?? redisMs;
    if (nextDueMs >= 0 && nextDueMs <= nowMs) {
      while (await around("sweep: expire", () => get(shopId).expire("", []))) {
        // at most 100 at a time; other calls come in between
      }
      await around("sweep: flush expired", () => get(shopId).sweep());
    }
    if (nextRenewalMs >= 0 && nextRenewalMs <= nowMs) {
      while (await around("sweep: renew", () => get(shopId).renew(""))) {
        // the same
      }
      await around("sweep: flush renewed", () => get(shopId).sweep());
    }
  };

  /** Sweeps under way: a shop that is rebuilt for half a minute must not keep the others from theirs. */
  const shopSweeps = new Map<string, Promise<void>>();
  const sweep = async (): Promise<void> => {
    // Over a connection that flushes, not the pool: slow reads must not look like a Postgres that is away.
    const [connection] = flushConnections as [FlushConnection];
    await around("sweep: connect", () => connection.ensureConnected());
    const heads = await around("sweep: list shops", () => listHeads(connection.db));
    // A shop that Redis does not hold has nobody but Postgres to tell that a subscription is to be renewed.
    const nowMs = options.clock?.() ?? Date.now();
    const toRenew = new Set(await around("sweep: list renewals", () => listShopsToRenew(connection.db, nowMs)));
    postgres.answered();
    for (const shop of heads.filter(({ shopId }) => !shopSweeps.has(shopId))) {
      const swept = sweepShop(shop, toRenew.has(shop.shopId))
        .catch((error) => sayUnswept(shop.shopId, error))
        .finally(() => shopSweeps.delete(shop.shopId));
      shopSweeps.set(shop.shopId, swept);
    }
  };

  let closed = false;
  let sweeping: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  const scheduleSweep = (): void => {
    timer = setTimeout(() => {
      sweeping = sweep()
        .catch((error) => {
          if (isPostgresDown(error) && !isConnectionLost(error)) {
            postgres.failed(error);
          }
          logger[isStoreAway(error) ? "debug" : "warn"]({ err: error }, "the shops could not be swept");
        })
        .finally(() => closed || scheduleSweep());
    }, sweepMs);
  };
  scheduleSweep();
  const watches = [
    watchStore(
      () => redis.ping(),
      redisState,
      (ms) => observer.storeAnswered("Redis", ms),
    ),
    watchStore(
      () => options.probe.ask(),
      postgres,
      (ms) => observer.storeAnswered("Postgres", ms),
    ),
  ];

  return {
    get,
    find: (shopId) => shops.get(shopId),
    forget: deps.onUnknown,
    hub: (shopId) => {
      let hub = hubs.get(shopId);
      if (hub === undefined) {
        hub = new WatchHub(shopId, db, options.watchedCommits ?? 2000, logger, () => hubs.delete(shopId));
        hubs.set(shopId, hub);
      }
      return hub;
    },
    get served() {
      return shops.values();
    },
    get hubs() {
      return hubs.values();
    },
    past,
    isUp: (store) => stateOf(store).isUp,
    consumers,
    admission,
    db,
    scripts,
    requestRetentionMs: options.requestRetentionMs,
    acksDurable: options.durability === "postgres",
    maxBacklogCommits: options.maxBacklogCommits,
    awayStore: () => (redisState.isUp ? (postgres.isUp ? undefined : "Postgres") : "Redis"),
    require: (store) => {
      if (!stateOf(store).isUp) {
        throw unavailable(store);
      }
    },
    whileRedisAnswers: (work) => {
      if (!redisState.isUp) {
        return Promise.resolve(undefined);
      }
      return new Promise((resolve, reject) => {
        const leave = (): void => resolve(undefined);
        const fail = (error: unknown): void => (isRedisAway(error) ? leave() : reject(error));
        waitCount += 1;
        const number = waitCount;
        waitForRedis.set(number, leave);
        void work()
          .then(resolve, fail)
          .finally(() => waitForRedis.delete(number));
      });
    },
    nowMs: () => options.clock?.() ?? Date.now(),
    onStoreChange: (listener) => {
      storeListeners.push(listener);
    },
    onDurable: (listener) => {
      durableListeners.push(listener);
    },
    close: async () => {
      closed = true;
      clearTimeout(timer);
      for (const watch of watches) {
        watch.stop();
      }
      consumers.close();
      await Promise.all([...shops.values()].map((shop) => shop.close()));
      await sweeping;
      await Promise.all([...shopSweeps.values(), ...openingLater.values()]);
    },
  };
}

function isRedisAway(error: unknown): boolean {
  return error instanceof RedisUnavailable || (error instanceof StoreUnavailable && error.store === "Redis");
}

/** Asks a store again and again whether it is there: also when nobody calls, and when what was asked before is not answered. */
function watchStore(ask: () => Promise<void>, state: StoreState, onAnswer: (ms: number) => void): { stop(): void } {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  const look = async (): Promise<void> => {
    const askedAtMs = performance.now();
    const failure: unknown = await ask().catch((error: unknown) => error);
    if (stopped) {
      return; // the connections may have been closed meanwhile
    }
    if (failure === undefined) {
      onAnswer(performance.now() - askedAtMs);
      state.answered();
    } else {
      state.failed(failure);
    }
    timer = setTimeout(look, lookMs);
  };
  timer = setTimeout(look, lookMs);
  return {
    stop: () => {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
