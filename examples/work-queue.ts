// A worker over Holdfast's log: what all the workers in this folder share.
//
// It keeps: commits are handled one at a time, in their order, and acknowledged only after they were handled. So nothing is
// handled zero times, and after a crash only what was not acknowledged is handled again.
import { setTimeout as delay } from "node:timers/promises";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { AdminService } from "../gen/holdfast/v1/admin_service_pb.js";
import { type Event, EventService, type WatchEventsResponse } from "../gen/holdfast/v1/event_service_pb.js";
import { OrderService } from "../gen/holdfast/v1/order_service_pb.js";
import { UserService } from "../gen/holdfast/v1/user_service_pb.js";

/** What a worker calls Holdfast with. */
export interface Holdfast {
  readonly shopId: string;
  readonly admin: Client<typeof AdminService>;
  readonly events: Client<typeof EventService>;
  readonly orders: Client<typeof OrderService>;
  readonly users: Client<typeof UserService>;
}

/** What a worker does with an event; it is repeated until it succeeds, so it should be harmless to repeat. */
export type Step = (event: Event, holdfast: Holdfast) => Promise<void>;

/** A worker. */
export interface Worker {
  /** Its name, and the name of its consumer unless HOLDFAST_CONSUMER says otherwise. */
  readonly name: string;
  /** The events it wants, named as in the contract: `order_placed`. */
  readonly eventTypes: readonly string[];
  /** Done in order for each event. Each is repeated by itself: a failing second step does not repeat the first. */
  readonly steps: readonly Step[];
  /** Closes what would keep the process from ending. */
  readonly close?: () => void;
}

/** Deadline of a unary call, in milliseconds. */
export const callTimeoutMs = 5000;
/** Pause before the second attempt at anything, in milliseconds; it doubles up to the longest. */
const firstPauseMs = 100;
const longestPauseMs = 10_000;
/** Messages read ahead of the one at hand, so that the end of the watch is seen while a commit is being handled. */
const readAheadCount = 256;
/** Exit code of a worker whose consumer was taken by another. */
const takenExitCode = 3;

/** Refusals of a watch that no later attempt mends. CONSUMER_TAKEN: to watch again would throw the newer worker out. */
const finalReasons = ["CONSUMER_TAKEN", "SHOP_NOT_FOUND", "VALIDATION_FAILED", "UNAUTHENTICATED", "PERMISSION_DENIED"];

/** The reason of a refusal, as in the contract's ErrorReason; empty for every other error. */
export function reasonOf(error: unknown): string {
  return error instanceof ConnectError ? (error.findDetails(ErrorInfoSchema)[0]?.reason ?? "") : "";
}

/** Runs a worker until SIGTERM or SIGINT (exit code 0), until another takes its consumer (3), or until it cannot go on (1). */
export async function runWorker(worker: Worker): Promise<void> {
  const baseUrl = baseUrlOf(process.env.HOLDFAST_GRPC || "127.0.0.1:50051");
  if (baseUrl === undefined) {
    const accepted = "accepted is host:port or http://host:port, such as 127.0.0.1:50051";
    console.log(`${worker.name}: HOLDFAST_GRPC is ${JSON.stringify(process.env.HOLDFAST_GRPC)}, ${accepted}`);
    worker.close?.();
    process.exitCode = 1;
    return;
  }
  // A connection that went silent is noticed by pings, and the watch begins anew.
  const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 5000, pingIdleConnection: true };
  const sessionManager = new Http2SessionManager(baseUrl, pings);
  const transport = createGrpcTransport({ baseUrl, sessionManager });
  const holdfast: Holdfast = {
    shopId: process.env.HOLDFAST_SHOP || "default",
    admin: createClient(AdminService, transport),
    events: createClient(EventService, transport),
    orders: createClient(OrderService, transport),
    users: createClient(UserService, transport),
  };
  const quit = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => quit.abort(signal));
  }
  await createQueue(worker, holdfast, quit).run();
  worker.close?.();
  sessionManager.abort();
  const why: unknown = quit.signal.reason;
  const isTaken = reasonOf(why) === "CONSUMER_TAKEN";
  console.log(`${worker.name}: ends: ${isTaken ? "another worker has taken over" : textOf(why)}`);
  process.exitCode = typeof why === "string" ? 0 : isTaken ? takenExitCode : 1;
}

/** Undefined when the address is none. */
function baseUrlOf(address: string): string | undefined {
  const url = address.includes("://") ? address : `http://${address}`;
  return /^https?:\/\/[^\s/@]+:\d+\/?$/.test(url) && URL.canParse(url) ? url : undefined;
}

function createQueue({ name, eventTypes, steps }: Worker, holdfast: Holdfast, quit: AbortController) {
  const { shopId, events } = holdfast;
  const consumer = process.env.HOLDFAST_CONSUMER || name;
  let acknowledged = 0n;

  /** Repeats something until it succeeds, with growing pauses; gives up only when the worker quits. */
  const insist = async <Result>(what: string, attempt: () => Promise<Result>): Promise<Result> => {
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      try {
        return await attempt();
      } catch (error) {
        quit.signal.throwIfAborted();
        console.log(`${name}: ${what} failed, another attempt follows: ${textOf(error)}`);
        await pause(pauseMs, quit.signal);
      }
    }
  };

  const acknowledge = async (position: bigint): Promise<void> => {
    if (position <= acknowledged) {
      return;
    }
    const request = { shopId, consumer, position };
    const answer = await insist("an acknowledgement", () => events.ackEvents(request, { timeoutMs: callTimeoutMs }));
    acknowledged = answer.position;
  };

  const handle = async ({ message }: WatchEventsResponse): Promise<void> => {
    if (message.case === "bookmark" || message.case === "caughtUp") {
      await acknowledge(message.value.position); // everything up to there was handled, or is nothing to us
    }
    if (message.case !== "batch" || message.value.position <= acknowledged) {
      return; // acknowledged already: by a worker that took over while we were behind
    }
    for (const event of message.value.events) {
      for (const step of steps) {
        await insist(`${event.payload.case} at position ${event.position}`, () => step(event, holdfast));
      }
    }
    await acknowledge(message.value.position);
  };

  /** Watches once, until the stream ends; a transient end lets the commit at hand be finished and acknowledged. */
  const watch = async (onMessage: () => void): Promise<void> => {
    acknowledged = 0n; // what counts is what Holdfast says, also after it was restored from a backup
    const start = { case: "consumer", value: consumer } as const;
    const stream = events.watchEvents({ shopId, start, eventTypes: [...eventTypes] }, { signal: quit.signal });
    for await (const message of readAhead(stream, quitIfFinal)) {
      onMessage();
      await handle(message);
    }
  };

  const quitIfFinal = (error: unknown): void => {
    if (finalReasons.includes(reasonOf(error)) || ConnectError.from(error).code === Code.Unimplemented) {
      quit.abort(error);
    }
  };

  return {
    /** Watches again and again until the worker quits. */
    run: async (): Promise<void> => {
      let pauseMs = firstPauseMs;
      while (!quit.signal.aborted) {
        try {
          await watch(() => {
            pauseMs = firstPauseMs;
          });
          console.log(`${name}: the server stops; watching again`);
          await pause(pauseMs, quit.signal);
        } catch (error) {
          if (!quit.signal.aborted) {
            console.log(`${name}: the watch ended, another follows: ${textOf(error)}`);
            await pause(pauseMs, quit.signal).catch(() => {}); // rejects when the worker quits
          }
        }
        pauseMs = Math.min(pauseMs * 2, longestPauseMs);
      }
    },
  };
}

/**
 * Passes messages on while it reads ahead. It ends or throws as soon as its source does: what was read and not passed on
 * yet is dropped, because it was not acknowledged and comes again.
 */
async function* readAhead<Message>(
  source: AsyncIterable<Message>,
  onError: (error: unknown) => void,
): AsyncGenerator<Message> {
  const ready: Message[] = [];
  let end: { readonly error?: unknown } | undefined;
  let turn = Promise.withResolvers<void>();
  const changed = (): void => {
    turn.resolve();
    turn = Promise.withResolvers();
  };
  const read = async (): Promise<void> => {
    for await (const message of source) {
      ready.push(message);
      changed();
      while (ready.length >= readAheadCount) {
        await turn.promise;
      }
    }
  };
  read().then(
    () => {
      end = {};
      changed();
    },
    (error) => {
      end = { error };
      onError(error);
      changed();
    },
  );
  for (;;) {
    const message = ready.shift();
    if (end !== undefined) {
      if ("error" in end) {
        throw end.error;
      }
      return;
    }
    if (message === undefined) {
      await turn.promise;
    } else {
      changed();
      yield message;
    }
  }
}

/** Waits about so long: half of it to all of it, so that workers do not come back at the same moment. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return delay(ms * (0.5 + Math.random() / 2), undefined, { signal });
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
