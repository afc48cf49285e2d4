import type { CallRecord, CommitRecord } from "../../history/history.ts";
import { openingCalls } from "../../model/commands.ts";
import type { Call } from "../../model/decide.ts";
import { describe } from "../../model/failure.ts";
import { Audience } from "./audience.ts";
import { callUntilKnown, pause } from "./call-until-known.ts";
import { chooseCalls } from "./choose-call.ts";
import { type Acknowledged, Ledger } from "./ledger.ts";
import { type OpenDoors, openServers, type ServerAddress } from "./open-servers.ts";
import { Random } from "./random.ts";
import { View } from "./view.ts";

export interface WorkloadOptions {
  /** Everything that is chosen comes from it; in which order the servers get it does not. */
  readonly seed: number;
  /** Created with USD, and nothing else is in it. */
  readonly shopId: string;
  readonly callerCount: number;
  readonly watcherCount: number;
  readonly consumerCount: number;
  /** A server that was killed comes back at the same address. */
  readonly servers: readonly ServerAddress[];
  /** One JSON line per acknowledged mutation. */
  readonly ledgerPath: string;
}

export interface Workload {
  /** Callers make calls until `settle`. */
  resume(): void;
  /** No new calls; resolves when the outcome of every call in flight is known. Rejects after 60 s, naming them. */
  settle(): Promise<void>;
  readonly calls: readonly CallRecord[];
  /** What watchers and consumers were sent that contradicts the commits, once they have caught up with them. */
  checkWatchers(commits: readonly CommitRecord[]): Promise<readonly string[]>;
  /** What the ledger holds. */
  readonly acknowledged: readonly Acknowledged[];
  close(): Promise<void>;
}

/** How long a caller thinks between two calls, in milliseconds: two cores are shared with servers and stores. */
const thinkMs = [30, 150] as const;

/** How long `settle` waits for outcomes, in milliseconds. */
const settleMs = 60_000;

/** A call under way. */
interface InFlight {
  readonly call: Call;
  readonly invokedMs: number;
  lastTrouble: string;
  isOver(): boolean;
}

/** Fills the shop, and opens what the callers need; they wait for `resume`. */
export async function startWorkload(options: WorkloadOptions): Promise<Workload> {
  const callers = new Callers(options, openServers(options.servers), await Ledger.open(options.ledgerPath));
  await callers.fillShop();
  return callers;
}

class Callers implements Workload {
  readonly #options: WorkloadOptions;
  readonly #servers: readonly OpenDoors[];
  readonly #ledger: Ledger;
  readonly #view: View;
  readonly #audience: Audience;
  readonly #known: CallRecord[] = [];
  readonly #inFlight = new Set<InFlight>();
  /** Calls of one caller that somebody else is to send at the same time. */
  readonly #doubles: Call[] = [];
  readonly #loops: Promise<void>[] = [];
  readonly #randoms: readonly Random[];
  #isRunning = false;
  #isClosed = false;

  constructor(options: WorkloadOptions, servers: readonly OpenDoors[], ledger: Ledger) {
    this.#options = options;
    this.#servers = servers;
    this.#ledger = ledger;
    this.#view = new View(options.shopId);
    this.#audience = new Audience({ ...options, servers });
    this.#randoms = Array.from({ length: options.callerCount }, (_, index) => new Random(options.seed * 1009 + index));
  }

  get acknowledged(): readonly Acknowledged[] {
    return this.#ledger.entries;
  }

  get calls(): readonly CallRecord[] {
    const unknown = { attemptMs: 0, returnedMs: Number.POSITIVE_INFINITY, outcome: undefined };
    const open = [...this.#inFlight].map(({ call, invokedMs }) => ({ call, invokedMs, ...unknown }));
    return [...this.#known, ...open];
  }

  async fillShop(): Promise<void> {
    const [random] = this.#randoms as readonly [Random];
    for (const calls of openingCalls()) await Promise.all(calls.map((call) => this.#call(call, random)));
  }

  resume(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#loops.push(...this.#randoms.map((random) => this.#callOn(random)));
  }

  async #callOn(random: Random): Promise<void> {
    while (this.#isRunning) {
      await pause(random.between(...thinkMs));
      if (!this.#isRunning) return;
      const [call, ...doubles] =
        this.#doubles.length > 0 ? this.#doubles.splice(0, 1) : chooseCalls(random, this.#view);
      this.#doubles.push(...doubles);
      await this.#call(call as Call, random);
    }
  }

  async #call(call: Call, random: Random): Promise<void> {
    const inFlight = { call, invokedMs: performance.now(), lastTrouble: "", isOver: () => this.#isClosed };
    this.#inFlight.add(inFlight);
    this.#view.sent(call);
    const record = await callUntilKnown(this.#servers, this.#options.shopId, call, random, inFlight);
    const { outcome } = record;
    if (outcome?.kind === "answered") {
      this.#view.answered(call, outcome);
      const { commit } = outcome;
      if (commit !== undefined) {
        const { request_id: requestId, position, commit_id: commitId } = commit;
        await this.#ledger.add({ requestId, position, commitId });
      }
    }
    this.#known.push(record);
    this.#inFlight.delete(inFlight);
  }

  async settle(): Promise<void> {
    this.#isRunning = false;
    const end = new AbortController();
    const timer = setTimeout(() => end.abort(), settleMs);
    const isLate = new Promise<"late">((resolve) => end.signal.addEventListener("abort", () => resolve("late")));
    const how = await Promise.race([Promise.all(this.#loops), isLate]);
    clearTimeout(timer);
    if (how === "late") throw new Error(`after ${settleMs} ms no outcome of\n${this.#describeInFlight()}`);
    this.#loops.splice(0);
  }

  #describeInFlight(): string {
    return [...this.#inFlight].map(({ call, lastTrouble }) => `${describe(call)}: ${lastTrouble}`).join("\n");
  }

  async checkWatchers(commits: readonly CommitRecord[]): Promise<readonly string[]> {
    return await this.#audience.check(commits);
  }

  async close(): Promise<void> {
    this.#isRunning = false;
    this.#isClosed = true;
    await Promise.all([...this.#loops, this.#audience.close()]);
    for (const server of this.#servers) server.close();
    await this.#ledger.close();
  }
}
