import { Redis } from "ioredis";
import { StartError } from "../start-error.ts";
import { tellCertificate } from "../untrusted-certificate.ts";
import type { ShopKeys } from "./keys.ts";
import { connectCluster } from "./redis-cluster.ts";
import {
  answeredInTime,
  classified,
  evaluate,
  exchangeLibraries,
  gatherWrites,
  modeOf,
  timeoutsOf,
} from "./redis-functions.ts";
import type { Library, Script } from "./scripts.ts";

export { RedisUnavailable } from "./redis-functions.ts";

/** Runs scripts on a Redis, or on the node of a Redis Cluster that serves their shop. One that Redis lacks is loaded when it is first run. */
export interface ScriptRunner {
  /** Loads a library ahead of its first run, and removes what other versions of Holdfast left. Throws StartError. */
  load(library: Library): Promise<void>;
  /** Runs a script that decides: nothing is ever sent twice behind the caller's back. Throws RedisUnavailable. */
  run(script: Script, keys: ShopKeys, args: readonly (string | number)[]): Promise<unknown>;
  /** Runs a script that decides nothing on a connection of its own, so that a large log read never delays a decision. */
  aside(script: Script, keys: ShopKeys, args: readonly (string | number)[]): Promise<unknown>;
  /** Calls `onHint` for every message on a pub/sub channel, again after each reconnect. */
  subscribe(channel: string, onHint: (message: string) => void): Promise<void>;
  /** Sends a message to whoever subscribed to a channel, once; it may be lost. Throws RedisUnavailable. */
  publish(channel: string, message: string): Promise<void>;
  /** The number of the database that the keys are in. Channels are not: deployments on two databases share them all. */
  readonly database: number;
  /**
   * How often a connection was made or a slot changed hands: while it stays the same, all commands of a shop went to one and
   * the same server, which has lost nothing. After a reconnect it may be another one.
   */
  readonly generation: number;
  /**
   * Rejects, with the reason, unless all connections are there and Redis answers within a second. A cluster is there while
   * one of its masters is: one that is away makes only its own shops unavailable.
   */
  ping(): Promise<void>;
  /** The connection of the decisions, to each master, for the checks at start. */
  readonly connections: readonly Redis[];
  close(): Promise<void>;
}

/** What a runner needs. */
export interface RedisOptions {
  /** `redis://` or `rediss://` address; several of the nodes of a cluster, separated by commas. */
  readonly url: string;
  /** How long a command may take, in milliseconds; afterwards its outcome is unknown. */
  readonly commandTimeoutMs: number;
  /** Called with every connection error; commands report theirs to their callers as well. */
  readonly onError: (error: Error) => void;
}

/** What a connection does with commands that it could not send, or whose answer it lost. */
interface Repeats {
  readonly maxRetriesPerRequest: number | null;
  readonly enableOfflineQueue?: boolean;
  readonly commandTimeout?: number;
  readonly socketTimeout?: number;
}

/**
 * Connects to a Redis, or to the Redis Cluster that an address belongs to. Throws a StartError when the first connection
 * cannot be made within five seconds.
 */
export async function connectRedis(options: RedisOptions): Promise<ScriptRunner> {
  const { url, commandTimeoutMs, onError } = options;
  if (/[?&]keyPrefix=/.test(url)) {
    throw new StartError(
      "REDIS_URL has a keyPrefix, which is not supported: use a database of its own (redis://host:port/1)",
    );
  }
  if (url.includes(",")) {
    return connectCluster(options);
  }
  let lastError: Error | undefined;
  let generation = 0;
  const connect = async (connectionName: string, retries: Repeats): Promise<Redis> => {
    const client = new Redis(url, {
      connectionName,
      lazyConnect: true,
      connectTimeout: 5000,
      // One that hears of hints only would not notice otherwise that nobody is there any more.
      keepAlive: 10_000,
      retryStrategy: (times) => Math.min(times * 20, 500),
      // A master that was demoted keeps its connections: a new one finds its successor. Nothing is sent again.
      reconnectOnError: (error) => error.message.startsWith("READONLY"),
      ...retries,
    });
    client.on("connect", () => {
      generation += 1;
    });
    client.on("error", (error: Error) => {
      lastError = error;
      onError(error);
    });
    await client.connect().catch((error: Error) => {
      client.disconnect();
      // connect() itself only says that the connection was closed; why is in the event before.
      throw new StartError(
        `Redis cannot be reached: ${tellCertificate(lastError ?? error)}. Check REDIS_URL, or leave it unset for a private one`,
      );
    });
    return client;
  };
  // ioredis would send a command again when its answer was lost: the script would run twice.
  const once = { maxRetriesPerRequest: 0, enableOfflineQueue: false, ...timeoutsOf(commandTimeoutMs) };
  const commands = await connect("holdfast-commands", once);
  const mode = await modeOf(commands).catch((error: unknown) => {
    commands.disconnect();
    throw error;
  });
  if (mode === "cluster") {
    commands.disconnect();
    return connectCluster(options);
  }
  const reads = await connect("holdfast-reads", once);
  // To subscribe twice does no harm; a subscription that fails after a reconnect would end the process.
  const hints = await connect("holdfast-hints", { maxRetriesPerRequest: null });

  const clients = [commands, reads, hints];

  return {
    ping: async () => {
      if (clients.some(({ status }) => status !== "ready")) {
        throw lastError ?? new Error("the connection was lost");
      }
      await answeredInTime(commands.ping());
    },
    get generation() {
      return generation;
    },
    connections: [commands],
    database: commands.options.db ?? 0,
    load: (library) => exchangeLibraries(commands, library),
    run: (script, keys, args) => evaluate(commands, script, keys, args),
    aside: (script, keys, args) => evaluate(reads, script, keys, args),
    subscribe: async (channel, onHint) => {
      hints.on("message", (from, message) => {
        if (from === channel) {
          onHint(message);
        }
      });
      await hints.subscribe(channel);
    },
    publish: async (channel, message) => {
      gatherWrites(reads);
      await reads.publish(channel, message).catch((error) => {
        throw classified(error);
      });
    },
    close: async () => {
      for (const client of clients) {
        client.disconnect();
      }
    },
  };
}
