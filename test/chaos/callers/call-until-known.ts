import { Code, ConnectError } from "@connectrpc/connect";
import type { CallRecord } from "../../history/history.ts";
import { type Outcome, send } from "../../model/caller.ts";
import type { Call } from "../../model/decide.ts";
import type { OpenDoors } from "./open-servers.ts";
import type { Random } from "./random.ts";

/** How long one attempt may take, in milliseconds. */
const attemptMs = 2000;

/** The longest pause before the next attempt, in milliseconds. */
const longestPauseMs = 300;

/** Refusals that say nothing of the call: it is to be repeated. */
const unknownReasons: ReadonlySet<string> = new Set(["SHOP_UNAVAILABLE", "SHOP_FENCED", "RATE_LIMITED", "OVERLOADED"]);

/** How an attempt of unknown outcome ends when the client library speaks, and not the server. */
const lostCodes: ReadonlySet<Code> = new Set([
  Code.Unavailable,
  Code.DeadlineExceeded,
  Code.Canceled,
  Code.ResourceExhausted,
  Code.Aborted,
  Code.Unknown,
  Code.Internal,
]);

/** An attempt that has to be repeated. */
interface Lost {
  readonly kind: "lost";
  readonly retryMs: number | undefined;
  readonly why: string;
}

/**
 * Makes a call again and again, under the same request id and with short deadlines, each time on another server and door,
 * until its outcome is known. Gives up, with an unknown outcome, when `isOver` says so.
 */
export async function callUntilKnown(
  servers: readonly OpenDoors[],
  shopId: string,
  call: Call,
  random: Random,
  progress: { lastTrouble: string; isOver(): boolean },
): Promise<CallRecord> {
  const invokedMs = performance.now();
  let sentMs = invokedMs;
  let server = random.below(servers.length);
  let door = call.door;
  while (!progress.isOver()) {
    sentMs = performance.now();
    const outcome = await attempt(servers[server] as OpenDoors, shopId, { ...call, door });
    if (outcome.kind !== "lost") return { call, invokedMs, attemptMs: sentMs, returnedMs: performance.now(), outcome };
    progress.lastTrouble = outcome.why;
    await pause(Math.min(outcome.retryMs ?? 20, longestPauseMs) * random.between(0.5, 1));
    server = (server + 1 + random.below(Math.max(servers.length - 1, 1))) % servers.length;
    door = random.chance(50) ? "grpc" : "http";
  }
  return { call, invokedMs, attemptMs: sentMs, returnedMs: Number.POSITIVE_INFINITY, outcome: undefined };
}

async function attempt(server: OpenDoors, shopId: string, call: Call): Promise<Outcome | Lost> {
  try {
    const outcome = await send(server, shopId, call, attemptMs);
    if (outcome.kind === "answered" || !unknownReasons.has(outcome.reason)) return outcome;
    return { kind: "lost", retryMs: outcome.retryMs, why: outcome.reason };
  } catch (error) {
    return readError(error);
  }
}

/** What neither answers nor refuses: lost, unless the server itself says that it failed. */
function readError(error: unknown): Outcome | Lost {
  const { code, rawMessage } = ConnectError.from(error);
  const why = `${Code[code]}: ${rawMessage}`;
  if (lostCodes.has(code) && rawMessage !== "internal error") return { kind: "lost", retryMs: undefined, why };
  return { kind: "refused", reason: `(${why})`, metadata: {}, fields: [], violations: [], retryMs: undefined };
}

export async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
