import { setTimeout as sleep } from "node:timers/promises";
import { ConnectError } from "@connectrpc/connect";
import type { WatchEventsRequest } from "../../gen/holdfast/v1/event_service_pb.js";
import type { Doors } from "../helpers/holdfast.ts";
import { until } from "../helpers/until.ts";

/** What watchers need. */
export interface WatchersOptions {
  readonly shopId: string;
  /** The servers that watchers know of now; who loses one goes on with the last. */
  readonly servers: () => readonly Doors[];
}

/** A watcher that resumes after the last position it was sent, and a consumer that acknowledges. */
export interface Watchers {
  /** Waits until both were sent everything up to this position; rejects unless it was this, in order and without a gap. */
  check(commitIds: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

type Start = WatchEventsRequest["start"];

/** Starts the watchers of a shop. */
export function startWatchers({ shopId, servers }: WatchersOptions): Watchers {
  const end = new AbortController();
  const watcher = { sent: [] as string[], wrong: undefined as string | undefined };
  const consumer = { sent: [] as string[], wrong: undefined as string | undefined };

  /** Watches until the end, from where `from` says whenever a server was lost. */
  const watch = async (
    from: () => Start,
    take: (position: number, commitId: string, doors: Doors) => Promise<void>,
  ) => {
    for (let attempt = 0; !end.signal.aborted; attempt += 1) {
      const known = servers();
      const doors = known[attempt % known.length] as Doors;
      try {
        const stream = doors.grpc.events.watchEvents({ shopId, start: from() }, { signal: end.signal });
        for await (const { message } of stream) {
          if (message.case !== "batch") continue;
          await take(Number(message.value.position), message.value.commitId, doors);
        }
      } catch (error) {
        if (!(error instanceof ConnectError)) throw error; // anything else is no answer of a server
        await sleep(50);
      }
    }
  };

  const watching = [
    watch(
      () => ({ case: "afterPosition", value: BigInt(watcher.sent.length) }),
      async (position, commitId) => {
        if (position !== watcher.sent.length + 1) {
          watcher.wrong ??= `a watcher was sent ${position} after ${watcher.sent.length}`;
        }
        watcher.sent.push(commitId);
      },
    ),
    watch(
      () => ({ case: "consumer", value: "consumer" }),
      async (position, commitId, { grpc }) => {
        const known = consumer.sent[position - 1];
        const isAgain = known !== undefined && known !== commitId;
        if (isAgain || position > consumer.sent.length + 1) {
          consumer.wrong ??= `a consumer was sent ${position} after ${consumer.sent.length}${isAgain ? ", another commit" : ""}`;
        }
        consumer.sent[position - 1] = commitId;
        if (position % 3 === 0) {
          await grpc.events.ackEvents(
            { shopId, consumer: "consumer", position: BigInt(position) },
            { timeoutMs: 2500 },
          );
        }
      },
    ),
  ];

  return {
    check: async (commitIds) => {
      for (const each of [watcher, consumer]) {
        await until(
          `a watcher was sent ${commitIds.length} commits`,
          () => each.wrong !== undefined || each.sent.length >= commitIds.length,
        );
        const wrongAt = each.sent.findIndex((commitId, index) => commitId !== commitIds[index]);
        if (each.wrong !== undefined) throw new Error(each.wrong);
        if (wrongAt >= 0 && wrongAt < commitIds.length)
          throw new Error(`a watcher was sent another commit ${wrongAt + 1}`);
      }
    },
    close: async () => {
      end.abort();
      await Promise.all(watching);
    },
  };
}
