import { Redis } from "ioredis";
import { StartError } from "../start-error.ts";
import type { ShopKeys } from "./keys.ts";
import { type Library, libraryPrefix, type Script } from "./scripts.ts";

/** Redis did not answer. `outcome` says whether the script may have run: then only a repeat with the same request id tells. */
export class RedisUnavailable extends Error {
  override readonly name = "RedisUnavailable";
  readonly outcome: "not run" | "unknown";

  constructor(outcome: "not run" | "unknown", cause: unknown) {
    super(`Redis is unavailable: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.outcome = outcome;
  }
}

/** Runs scripts on one Redis. One that Redis lacks is loaded when it is first run. */
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
  /**
   * How often a connection was made: while it stays the same, all commands went to one and the same server, which has lost
   * nothing. After a reconnect it may be another one.
   */
  readonly generation: number;
  /** Rejects, with the reason, unless all connections are there and Redis answers within a second. */
  ping(): Promise<void>;
  /** The connection of the decisions, for the checks at start. */
  readonly connection: Redis;
  close(): Promise<void>;
}

/** What a runner needs. */
export interface RedisOptions {
  /** `redis://` or `rediss://` address. */
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
}

/** Connects to Redis; fails when the first connection cannot be made within five seconds. */
export async function connectRedis({ url, commandTimeoutMs, onError }: RedisOptions): Promise<ScriptRunner> {
  let lastError: Error | undefined;
  let generation = 0;
  const connect = async (connectionName: string, retries: Repeats): Promise<Redis> => {
    const client = new Redis(url, {
      connectionName,
      lazyConnect: true,
      connectTimeout: 5000,
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
        `Redis cannot be reached: ${lastError?.message ?? error.message}. Check REDIS_URL, or leave it unset for a private one`,
      );
    });
    return client;
  };
  // ioredis would send a command again when its answer was lost: the script would run twice.
  const once = { maxRetriesPerRequest: 0, enableOfflineQueue: false, commandTimeout: commandTimeoutMs };
  const commands = await connect("holdfast-commands", once);
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
    connection: commands,
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

/** How long Redis may take to answer a ping, in milliseconds. */
const pingMs = 1000;
/** What it gets besides once that time is over, in milliseconds: this process may have been paused. */
const afterPauseMs = 100;

async function answeredInTime(answer: Promise<unknown>): Promise<void> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  // After a pause of this process the answer may be there already, and is read only after the timers have run.
  let timer = setTimeout(() => {
    timer = setTimeout(reject, afterPauseMs, new Error("it does not answer"));
  }, pingMs);
  await Promise.race([answer, tooLate]).finally(() => clearTimeout(timer));
}

/**
 * Holds back what is written to a connection until this turn of the event loop is over, so that the calls of one turn
 * leave in one system call: a sixth of the process's CPU time went into those calls (2026-11, 256 in flight).
 */
function gatherWrites({ stream }: Redis): void {
  if (stream?.writableCorked === 0) {
    stream.cork();
    setImmediate(() => stream.uncork());
  }
}

async function evaluate(
  client: Redis,
  script: Script,
  keys: ShopKeys,
  args: readonly (string | number)[],
): Promise<unknown> {
  const values: (string | number)[] = [];
  for (const name of script.keys) {
    values.push(keys[name] as string);
  }
  for (const value of args) {
    values.push(value);
  }
  gatherWrites(client);
  try {
    return await client.fcall(script.functionName, script.keys.length, ...values);
  } catch (error) {
    if (error instanceof Error && error.message.startsWith(notFound)) {
      return loadAndRun(client, script, values);
    }
    throw classified(error);
  }
}

/** Runs a script that Redis did not have, and which therefore did not run yet. */
async function loadAndRun(client: Redis, script: Script, values: readonly (string | number)[]): Promise<unknown> {
  try {
    await loadOnce(client, script.library);
  } catch (error) {
    if (error instanceof Error && error.message.startsWith("OOM")) {
      // A full Redis takes no library, but it runs the scripts that free memory or only read.
      return client.eval(script.source, script.keys.length, ...values).catch((failure) => {
        throw classified(failure);
      });
    }
    const cause = classified(error);
    throw cause instanceof RedisUnavailable ? new RedisUnavailable("not run", error) : cause;
  }
  return client.fcall(script.functionName, script.keys.length, ...values).catch((error) => {
    throw classified(error);
  });
}

/** Loads that are under way, per connection: many calls at once may find that a library is missing. */
const loads = new WeakMap<Redis, Map<string, Promise<void>>>();

function loadOnce(client: Redis, library: Library): Promise<void> {
  const underWay = loads.get(client) ?? new Map<string, Promise<void>>();
  loads.set(client, underWay);
  const begun = underWay.get(library.name);
  if (begun !== undefined) {
    return begun;
  }
  const load = loadLibrary(client, library).finally(() => underWay.delete(library.name));
  underWay.set(library.name, load);
  return load;
}

async function loadLibrary(client: Redis, library: Library): Promise<void> {
  await client.call("FUNCTION", "LOAD", library.source).catch((error) => {
    // Another process was faster.
    if (!(error instanceof Error && error.message.includes("already exists"))) {
      throw error;
    }
  });
}

/**
 * Libraries stay in Redis, also over its restarts, and each makes the runs of all others a little slower: Lua's garbage
 * collector walks over it. A process of another version that is still at work loads its own again when it misses it.
 */
async function exchangeLibraries(client: Redis, library: Library): Promise<void> {
  try {
    await loadOnce(client, library);
    const found = (await client.call("FUNCTION", "LIST", "LIBRARYNAME", `${libraryPrefix}*`)) as unknown[][];
    const libraryNames = found.map((fields) => fields[fields.indexOf("library_name") + 1] as string);
    for (const name of libraryNames.filter((each) => each !== library.name)) {
      // It may be gone by now, when two processes start at once.
      await client.call("FUNCTION", "DELETE", name).catch(() => {});
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // A full Redis has to be cured, not left alone: the scripts that free memory run in any case.
    if (!message.startsWith("OOM")) {
      throw new StartError(
        `Redis does not take Holdfast's functions: ${message}. Its user needs the commands FCALL, EVAL and FUNCTION`,
      );
    }
  }
}

/** How Redis says that it does not have a function. */
const notFound = "ERR Function not found";

/** Error replies that mean: Redis did not run the script, and another try later can succeed. */
const notRun = new RegExp(
  `^((LOADING|BUSY|MASTERDOWN|READONLY|CLUSTERDOWN|TRYAGAIN|OOM|NOREPLICAS|MISCONF)\\b|${notFound})`,
);
const notSent = /enableOfflineQueue|Connection is closed/;

function classified(error: unknown): unknown {
  if (!(error instanceof Error)) {
    return error;
  }
  if (error.name === "ReplyError") {
    return notRun.test(error.message) ? new RedisUnavailable("not run", error) : error;
  }
  return new RedisUnavailable(notSent.test(error.message) ? "not run" : "unknown", error);
}
