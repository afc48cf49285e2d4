import type { Redis } from "ioredis";
import { StartError } from "../start-error.ts";
import type { ShopKeys } from "./keys.ts";
import { ScriptCommand } from "./script-command.ts";
import { type Library, libraryPrefix, type Script } from "./scripts.ts";

/** Redis did not answer. `outcome` says whether the script may have run: then only a repeat with the same request id tells. */
export class RedisUnavailable extends Error {
  override readonly name = "RedisUnavailable";
  readonly outcome: "not run" | "unknown";

  constructor(outcome: "not run" | "unknown", cause: unknown) {
    super(`Redis is unavailable: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.outcome = outcome;
  }

  /** What Redis refused it with, such as `OOM`, when it is full; undefined when it did not answer. */
  get errorCode(): string | undefined {
    const { cause } = this;
    return cause instanceof Error && cause.name === "ReplyError" ? /^[A-Z]+\b/.exec(cause.message)?.[0] : undefined;
  }
}

/**
 * How long a command may take, and how long a connection may say nothing to what it was asked: then it is given up, since a new
 * one may reach who is there now. A peer that went silent, as after a lost power or a moved address, closes nothing.
 */
export function timeoutsOf(commandTimeoutMs: number): {
  readonly commandTimeout: number;
  readonly socketTimeout: number;
} {
  return { commandTimeout: commandTimeoutMs, socketTimeout: 2 * commandTimeoutMs };
}

/** How long Redis may take to answer a ping, in milliseconds. */
const pingMs = 1000;
/** What it gets besides once that time is over, in milliseconds: this process may have been paused. */
const afterPauseMs = 100;

/** Resolves when Redis answered, rejects when it did not within a second. */
export async function answeredInTime<Value>(answer: Promise<Value>): Promise<Value> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  // After a pause of this process the answer may be there already, and is read only after the timers have run.
  let timer = setTimeout(() => {
    timer = setTimeout(reject, afterPauseMs, new Error("it does not answer"));
  }, pingMs);
  return await Promise.race([answer, tooLate]).finally(() => clearTimeout(timer));
}

/**
 * Holds back what is written to a connection until this turn of the event loop is over, so that the calls of one turn
 * leave in few system calls: a sixth of the process's CPU time went into those calls (2026-11, 256 in flight).
 */
export function gatherWrites({ stream }: Redis): void {
  if (stream?.writableCorked === 0) {
    stream.cork();
    setImmediate(() => stream.uncork());
  } else if (stream !== undefined && stream.writableLength > gatheredLength) {
    stream.uncork();
    stream.cork();
  }
}

/** Some 20 calls, so that Redis decides them while the next ones of the turn are made: 1.03 of the orders per second (2026-11). */
const gatheredLength = 16_384;

/** Runs a script on one server, which loads its library when it lacks it. Throws RedisUnavailable. */
export async function evaluate(
  client: Redis,
  script: Script,
  keys: ShopKeys,
  args: readonly (string | number)[],
): Promise<unknown> {
  gatherWrites(client);
  const command = new ScriptCommand(script, keys, args);
  try {
    return await client.sendCommand(command);
  } catch (error) {
    if (error instanceof Error && error.message.startsWith(notFound)) {
      return loadAndRun(client, script, [...script.keys.map((name) => keys[name] as string), ...args]);
    }
    throw classified(error);
  } finally {
    command.over();
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
export async function exchangeLibraries(client: Redis, library: Library): Promise<void> {
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
        `Redis does not take Holdfast's functions: ${message}. Its user needs FCALL, EVAL and FUNCTION (deploy/redis/users.acl)`,
      );
    }
  }
}

/** How Redis says that it does not have a function. */
const notFound = "ERR Function not found";

/** Error replies that mean: Redis did not run the script, and another try later can succeed. */
const notRun = new RegExp(
  "^((LOADING|BUSY|MASTERDOWN|READONLY|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|OOM|NOREPLICAS|MISCONF|NOAUTH|WRONGPASS)\\b|" +
    // Not what a command in the middle of a script was refused for.
    `NOPERM (?!.*on @user_function)|ERR max number of clients|${notFound})`,
);
const notSent = /enableOfflineQueue|Connection is closed/;

/** An error as callers tell them apart: RedisUnavailable, or what the script said. */
export function classified(error: unknown): unknown {
  if (!(error instanceof Error)) {
    return error;
  }
  if (error.name === "ReplyError") {
    return notRun.test(error.message) ? new RedisUnavailable("not run", error) : error;
  }
  return new RedisUnavailable(notSent.test(error.message) ? "not run" : "unknown", error);
}

/** Whether a server stands alone or belongs to a cluster. Throws a StartError for a Sentinel, which holds no data. */
export async function modeOf(client: Redis): Promise<"standalone" | "cluster"> {
  const mode = /^(?:redis|server)_mode:(\w+)/m.exec(await client.info("server"))?.[1];
  if (mode === "sentinel") {
    throw new StartError(
      "REDIS_URL names a Redis Sentinel, which is not supported: give the address of a Redis, or of the nodes of a Redis Cluster",
    );
  }
  return mode === "cluster" ? "cluster" : "standalone";
}
