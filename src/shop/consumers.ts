import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { around } from "../crash-point.ts";
import { type ConsumerName, readSessions, takeConsumer } from "../postgres/consumers.ts";
import type { Database } from "../postgres/schema.ts";
import { Refusal } from "../refusal.ts";
import { makeId } from "./ids.ts";
import { consumerChannel } from "./keys.ts";
import { isStoreAway } from "./outage.ts";
import type { ScriptRunner } from "./redis.ts";

/** A consumer, as one watch has it. */
export interface ConsumerWatch {
  /** The position acknowledged last: the watch begins after it. */
  readonly position: number;
  /** Aborts, with the Refusal that ends the watch as its reason, when a newer watch took the consumer. */
  readonly taken: AbortSignal;
  /** The watch is over; the consumer stays where it is. */
  end(): void;
}

/** The consumers that are watched in this process. */
export interface Consumers {
  /** Takes a consumer for a watch, from whichever watch has it, in any process. The shop must exist. */
  take(name: ConsumerName): Promise<ConsumerWatch>;
  /** Stops looking. */
  close(): void;
}

/** What consumers need. */
export interface ConsumersOptions {
  readonly db: Kysely<Database>;
  readonly redis: Pick<ScriptRunner, "database" | "publish" | "subscribe">;
  readonly logger: Logger;
  /** How often the rows of all watched consumers are looked at, in milliseconds, as hints may be lost; default 1,000. */
  readonly lookMs?: number;
}

interface Session extends ConsumerName {
  readonly id: string;
  readonly taking: AbortController;
}

/**
 * Keeps one watch per consumer over all processes. Invariant: a watch goes on only as long as the consumer's row names its
 * session. The row alone decides; hints only say when to look at it, so late and lost ones do no harm. A watch counts from
 * when its session is in the row: whoever looks after that sees it, or a newer one.
 */
export async function createConsumers({ db, redis, logger, lookMs = 1000 }: ConsumersOptions): Promise<Consumers> {
  const sessions = new Set<Session>();
  let looking = false;

  const look = async (watched: readonly Session[]): Promise<void> => {
    if (watched.length === 0) {
      return;
    }
    try {
      const owners = new Map((await readSessions(db, watched)).map((row) => [keyOf(row), row.session]));
      for (const session of watched) {
        const owner = owners.get(keyOf(session));
        if (owner !== undefined && owner !== session.id) {
          session.taking.abort(takenBy(session));
        }
      }
    } catch (error) {
      const level = isStoreAway(error) ? "debug" : "warn";
      logger[level]({ err: error }, "the watched consumers could not be looked at; the next look tries again");
    }
  };

  const timer = setInterval(() => {
    if (!looking) {
      looking = true;
      void look([...sessions]).finally(() => {
        looking = false;
      });
    }
  }, lookMs);

  await redis.subscribe(consumerChannel(redis.database), (key) => {
    void look([...sessions].filter((session) => keyOf(session) === key));
  });

  return {
    take: async (name) => {
      const session = { ...name, id: makeId(), taking: new AbortController() };
      const position = await around("consumer: take", () => takeConsumer(db, name, session.id));
      sessions.add(session);
      // Without Redis the older watch finds out with its next look.
      redis.publish(consumerChannel(redis.database), keyOf(name)).catch(() => {});
      return { position, taken: session.taking.signal, end: () => void sessions.delete(session) };
    },
    close: () => clearInterval(timer),
  };
}

/** What a hint says: neither id contains a space. */
function keyOf({ shopId, consumer }: ConsumerName): string {
  return `${shopId} ${consumer}`;
}

function takenBy({ shopId, consumer }: ConsumerName): Refusal {
  return new Refusal("CONSUMER_TAKEN", `a newer watch has taken the consumer "${consumer}"`, {
    metadata: { shop_id: shopId, consumer },
  });
}
