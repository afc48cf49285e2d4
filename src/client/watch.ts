import { setTimeout as sleep } from "node:timers/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import type { IBackoff } from "cockatiel";
import {
  type EventService,
  type WatchEventsRequest,
  WatchEventsRequestSchema,
  type WatchEventsResponse,
} from "../../gen/holdfast/v1/event_service_pb.js";
import { isUndecided, refusalOf } from "./refusals.ts";
import { eitherOf, longestTimerMs, type Patience, pauseAfter } from "./repeat.ts";

/** A message of a watch, `batches` taken apart: a commit (`batch`), or where the watch stands (`bookmark`, `caughtUp`). */
export type Watched = Exclude<WatchEventsResponse["message"], { case: "batches" | undefined }>;

/** What ends or bounds a watch. */
export interface WatchOptions {
  /** Ends the watch, which then throws the signal's reason. */
  readonly signal?: AbortSignal;
  /**
   * A connection on which nothing came for so long is given up, in milliseconds. Default: three times the request's
   * `bookmark_interval`, and at least 15,000; Infinity: after 24 days. Below 10,000, a position that PostgreSQL is healing may not be waited for.
   */
  readonly silenceMs?: number;
}

/** The commit that was seen last. */
interface Place {
  readonly position: bigint;
  readonly commitId: string;
}

const leastSilenceMs = 15_000;

/**
 * Watches until the signal is aborted, over lost connections, silent ones, servers that stop and credentials that expire.
 * It keeps: its user gets every commit once, in order. After a drop it goes on after the last message, and has its identity checked.
 *
 * Throws RefusedError for what no other attempt mends: HISTORY_CHANGED, POSITION_TRIMMED, POSITION_AHEAD, CONSUMER_TAKEN,
 * SHOP_NOT_FOUND, SHOP_FENCED, VALIDATION_FAILED, UNAUTHENTICATED when an attempt begins without valid credentials. As a consumer it takes its consumer again after a drop, and leaves out
 * what it gave already and was not acknowledged yet. `from_now` counts from the first message, a `caughtUp`.
 */
export async function* watchCommits(
  events: Client<typeof EventService>,
  init: MessageInitShape<typeof WatchEventsRequestSchema>,
  { signal: ownSignal, silenceMs }: WatchOptions,
  { backoff, onRepeat, signal: clientSignal }: Patience,
): AsyncGenerator<Watched, never> {
  const request = create(WatchEventsRequestSchema, init);
  const signal = eitherOf(ownSignal, clientSignal);
  const longestMs = Math.min(silenceMs ?? Math.max(leastSilenceMs, 3 * bookmarkMs(request)), longestTimerMs);
  let last: Place | undefined;
  let pause: IBackoff<unknown> | undefined;
  for (;;) {
    let end: unknown;
    let wasServed = false;
    try {
      for await (const message of watchOnce(events, request, last, longestMs, signal)) {
        wasServed = true;
        pause = undefined;
        last = message.value;
        yield message;
      }
    } catch (error) {
      end = error;
    }
    signal?.throwIfAborted();
    if (end !== undefined && !isUndecided(end) && !(wasServed && isUnauthenticated(end))) {
      throw end;
    }
    onRepeat(end);
    pause = pause?.next(undefined) ?? backoff.next();
    await sleep(pauseAfter(end, pause), undefined, signal === undefined ? {} : { signal }).catch(() => {
      signal?.throwIfAborted();
    });
  }
}

/** In the middle of a watch: its credentials have expired, and the next attempt brings those that are valid then. */
function isUnauthenticated(error: unknown): boolean {
  return refusalOf(error)?.reason === "UNAUTHENTICATED";
}

/** Watches until the stream ends or breaks. */
async function* watchOnce(
  events: Client<typeof EventService>,
  request: WatchEventsRequest,
  last: Place | undefined,
  silenceMs: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Watched> {
  const open = (each: WatchEventsRequest) => responsesOf(events, each, silenceMs, signal);
  const isConsumer = request.start.case === "consumer";
  if (isConsumer && last !== undefined) {
    // A consumer's watch takes no commit id. Without filters the first message comes at once, or the refusal.
    for await (const _ of open(after(last, create(WatchEventsRequestSchema, { shopId: request.shopId })))) break;
  }
  for await (const { message } of open(last === undefined || isConsumer ? request : after(last, request))) {
    for (const each of takenApart(message)) {
      if (!isConsumer || last === undefined || isNews(each, last)) {
        yield each;
      }
    }
  }
}

function after({ position, commitId }: Place, request: WatchEventsRequest): WatchEventsRequest {
  return { ...request, start: { case: "afterPosition", value: position }, afterCommitId: commitId };
}

function isNews({ case: kind, value }: Watched, last: Place): boolean {
  return kind === "batch" ? value.position > last.position : value.position >= last.position;
}

function takenApart(message: WatchEventsResponse["message"]): readonly Watched[] {
  if (message.case === "batches") {
    return message.value.batches.map((value) => ({ case: "batch", value }));
  }
  return message.case === undefined ? [] : [message];
}

/** The responses of one stream, which ends when its user leaves it, or when nothing came for `silenceMs`. */
async function* responsesOf(
  events: Client<typeof EventService>,
  request: WatchEventsRequest,
  silenceMs: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<WatchEventsResponse> {
  const attempt = new AbortController();
  const options = { signal: eitherOf(signal, attempt.signal) as AbortSignal };
  const responses = events.watchEvents(request, options)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const timer = setTimeout(() => attempt.abort(), silenceMs);
      const next = await responses.next().finally(() => clearTimeout(timer));
      if (next.done === true) {
        return;
      }
      yield next.value;
    }
  } finally {
    attempt.abort(); // connect's streams do not end when their loop is left
  }
}

function bookmarkMs({ bookmarkInterval }: WatchEventsRequest): number {
  return bookmarkInterval === undefined ? 5000 : Number(bookmarkInterval.seconds) * 1000;
}
