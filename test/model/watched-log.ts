import { type EventBatch, EventBatchSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import type { Clients } from "../helpers/holdfast.ts";
import { type Plain, toPlain } from "./plain.ts";

/** A commit as a watcher is sent it, in the form of `plain.ts`. */
export interface WatchedCommit {
  readonly position: number;
  readonly epoch: number;
  readonly commitId: string;
  readonly requestId: string;
  readonly principal: string;
  readonly timeMs: number;
  /** Each with its name and payload. */
  readonly events: readonly (readonly [name: string, payload: Plain])[];
  /** The events as they came. */
  readonly wire: readonly Plain[];
}

/** How long a commit that was acknowledged may take to reach a watcher. */
const patienceMs = 20_000;

/** Everything that a shop commits, as one watcher sees it from the start. */
export class WatchedLog {
  readonly commits: WatchedCommit[] = [];
  readonly #end = new AbortController();
  readonly #ended: Promise<void>;
  #failure: unknown;
  #wake: () => void = () => {};

  constructor(clients: Clients, shopId: string) {
    this.#ended = this.#watch(clients, shopId).catch((error) => {
      this.#failure = error;
      this.#wake();
    });
  }

  /** The commit at a position that was waited for. */
  at(position: number): WatchedCommit {
    return this.commits[position - 1] as WatchedCommit;
  }

  /** Resolves when the watcher has been sent the commit at this position. */
  async until(position: number): Promise<void> {
    const endsAt = performance.now() + patienceMs;
    while (this.commits.length < position) {
      if (this.#failure !== undefined) throw this.#failure;
      const leftMs = endsAt - performance.now();
      if (leftMs <= 0) throw new Error(`position ${position} was not sent to a watcher; ${this.commits.length} was`);
      await this.next(leftMs);
    }
  }

  /** Resolves with the next commit, or when time is over. */
  async next(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async close(): Promise<void> {
    this.#end.abort();
    await this.#ended;
  }

  async #watch({ events }: Clients, shopId: string): Promise<void> {
    const request = { shopId, maxCommitsPerMessage: 100 };
    for await (const { message } of events.watchEvents(request, { signal: this.#end.signal })) {
      if (message.case !== "batches") continue;
      this.commits.push(...message.value.batches.map(readBatch));
      const last = this.commits.at(-1)?.position;
      if (last !== this.commits.length)
        throw new Error(`a watcher was sent ${this.commits.length} commits up to ${last}`);
      this.#wake();
    }
  }
}

/** Reads one commit of a watch. */
export function readBatch(batch: EventBatch): WatchedCommit {
  const plain = toPlain(EventBatchSchema, batch) as {
    readonly position: number;
    readonly epoch?: number;
    readonly commit_id: string;
    readonly request_id?: string;
    readonly principal?: string;
    readonly commit_time: number;
    readonly events: readonly Plain[];
  };
  return {
    position: plain.position,
    epoch: plain.epoch ?? 0,
    commitId: plain.commit_id,
    requestId: plain.request_id ?? "",
    principal: plain.principal ?? "",
    timeMs: plain.commit_time,
    events: plain.events.map(payloadOf),
    wire: plain.events,
  };
}

function payloadOf({ position: _, index: __, subjects: ___, ...rest }: Plain): readonly [string, Plain] {
  return Object.entries(rest)[0] as [string, Plain];
}
