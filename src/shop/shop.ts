import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { around, crashPoint } from "../crash-point.ts";
import { ForgetfulMap } from "../forgetful-map.ts";
import type { FlushConnection } from "../postgres/connection.ts";
import type { ShopHead } from "../postgres/flush-statement.ts";
import type { Database } from "../postgres/schema.ts";
import { Refusal } from "../refusal.ts";
import { type Admission, type Gate, overloaded, Place } from "./admission.ts";
import { Backlog } from "./backlog.ts";
import { answerWith, type EarlierCommitsOptions, earlierOf, lookUp } from "./earlier-commit.ts";
import { Fenced, isHalfDone, isReplyError, redisRefuses } from "./fence.ts";
import { createFlusher, type Flusher } from "./flusher.ts";
import { idTimeMs, makeId } from "./ids.ts";
import { type ShopKeys, shopKeys } from "./keys.ts";
import type { LogEntry } from "./log-entry.ts";
import { type MadeCommit, madeCommit } from "./made-commits.ts";
import { type Committed, callOf, LimitsMissing, type Mutation, refuseFutureIds } from "./mutation.ts";
import { openShop, type RebuildMode } from "./open-shop.ts";
import { OpeningCallers } from "./opening.ts";
import type { RebuildProgress } from "./progress.ts";
import type { ScriptRunner } from "./redis.ts";
import { refusalOf } from "./refusals.ts";
import { type Answer, parseReply, type Reply } from "./reply.ts";
import type { Script, Scripts } from "./scripts.ts";
import { ShopFence } from "./shop-fence.ts";
import type { ShopObserver } from "./shop-observer.ts";
import type { StoreState } from "./store-state.ts";
import { unavailable } from "./store-unavailable.ts";
import { RecordArguments } from "./stored-record.ts";
import { Tries } from "./tries.ts";
import { type Caller, patientCaller } from "./waiters.ts";

/** What a live read saw. */
export interface Observed {
  readonly position: number;
  readonly epoch: number;
  readonly payload: unknown;
}

/** What every shop of a process shares. */
export interface ShopDeps {
  readonly scripts: Scripts;
  readonly redis: ScriptRunner;
  readonly db: Kysely<Database>;
  readonly durability: "postgres" | "redis";
  /** Request ids kept in Redis per shop. */
  readonly memoryCount: number;
  /** How long a request id is kept in Postgres, in milliseconds. */
  readonly requestRetentionMs: number;
  /** Commits a flush takes at most. */
  readonly maxBatchCommits: number;
  /** Durable commits that stay in the log. */
  readonly marginCommits: number;
  /** Un-flushed commits at which a shop takes no more. */
  readonly maxBacklogCommits: number;
  /** The clock of scripts, in milliseconds; Redis' own when absent. Tests replace it. */
  readonly clock?: () => number;
  /** Who may go on to Redis, of all calls of the process. */
  readonly admission: Admission;
  /** Whether Postgres answered last time. */
  readonly postgres: StoreState;
  /** Whether Redis answered last time. */
  readonly redisState: StoreState;
  readonly onDurable: (shopId: string, before: ShopHead, entries: readonly LogEntry[]) => void;
  /** Told of a shop that turned out not to exist. */
  readonly onUnknown: (shopId: string) => void;
  readonly observer: ShopObserver;
  readonly logger: Logger;
}

/**
 * One shop in this process: runs its scripts, keeps them in the right epoch, and answers only what Postgres has.
 * It holds nothing that outlives a request but where the shop stands.
 */
export class Shop {
  readonly id: string;
  readonly keys: ShopKeys;
  /** What waits for Postgres. */
  readonly backlog = new Backlog();
  /** Whether the shop stands still. */
  readonly fence: ShopFence;
  readonly #deps: ShopDeps;
  readonly #connection: FlushConnection;
  readonly #gate: Gate;
  readonly #earlierCommits: EarlierCommitsOptions;
  #flusher: Flusher | undefined;
  #opening: Promise<ShopHead> | undefined;
  readonly #openingCallers = new OpeningCallers();
  #isOpen = false;
  /** Whether a script that commits ended in its middle: its commit may be in the log while the rest of its writes is missing. */
  #isHalfDone = false;
  /** Mutations and reads that are not over. */
  #callCount = 0;
  /** Whether it was opened or fenced here, and so exists. */
  #wasFound = false;
  /** The newest commit known to be durable that Redis still had afterwards, over connections of which this is the number. */
  #confirmed: (Identity & { readonly redisGeneration: number }) | undefined;
  /** The events of commits that callers of this process wait for, by commit id. */
  readonly #events = new ForgetfulMap<string, Record<string, object>[]>();

  constructor(id: string, deps: ShopDeps, connection: FlushConnection) {
    this.id = id;
    this.keys = shopKeys(id);
    this.#deps = deps;
    this.#connection = connection;
    const { db, requestRetentionMs, observer, logger, admission } = deps;
    this.fence = new ShopFence({ shopId: id, observer, logger });
    this.#earlierCommits = { shopId: id, db, requestRetentionMs };
    this.#gate = admission.openGate();
  }

  /** Runs a mutation until it is committed and durable, replayed, or refused. */
  mutate(mutation: Mutation): Promise<Committed> {
    return this.#during(mutation.isLaterStep === true, (place) => this.#mutate(mutation, place));
  }

  async #mutate(mutation: Mutation, place: Place): Promise<Committed> {
    const requestId = mutation.requestId === "" ? makeId() : mutation.requestId;
    const ids = [requestId, ...(mutation.ids ?? [])];
    const times = ids.map(idTimeMs);
    const oldestIdMs = times.length === 1 ? (times[0] as number) : Math.min(...times);
    refuseFutureIds(mutation, ids, times, Math.max(Date.now(), this.#deps.clock?.() ?? 0));
    this.#gate.refuseFull(mutation.isLaterStep === true);
    return this.#commit(mutation, requestId, oldestIdMs, place);
  }

  /** Runs a call, and gives its place back. */
  async #during<Value>(isLaterStep: boolean, work: (place: Place) => Promise<Value>): Promise<Value> {
    const place = new Place(this.#gate, isLaterStep);
    this.#callCount += 1;
    try {
      return await work(place);
    } finally {
      place.leave();
      this.#callCount -= 1;
      this.#forgetUnlessFound();
    }
  }

  /** Nobody knows whether there is such a shop when its calls were refused before it was opened: ids that somebody makes up must not stay. */
  #forgetUnlessFound(): void {
    const exists = this.#wasFound || this.backlog.durablePosition > 0;
    if (!exists && this.#callCount === 0 && this.#opening === undefined) {
      this.#deps.onUnknown(this.id);
    }
  }

  async #commit(mutation: Mutation, requestId: string, oldestIdMs: number, place: Place): Promise<Committed> {
    const { caller } = mutation;
    const call = callOf(mutation, requestId);
    const callText = JSON.stringify(call);
    const tries = new Tries(requestId);
    const record = new RecordArguments(mutation, this.#deps.db);
    let lookedUp = "0";
    let hasRun = false;
    caller.throwIfEnded();
    this.#admit();
    for (;;) {
      caller.throwIfEnded();
      const flusher = this.#openFlusher ?? (await this.#openFor(caller, tries, hasRun));
      if (flusher === undefined) {
        continue;
      }
      const turn = place.enter();
      if (turn !== undefined) {
        await turn;
        caller.throwIfEnded();
        this.#admit();
      }
      hasRun = true;
      const { epoch, head, headReadCount } = flusher;
      const redisGeneration = this.#deps.redis.generation;
      if (!record.isOf(epoch)) {
        await record.begin(epoch);
        // The read may have taken long: nobody may wait any more.
        caller.throwIfEnded();
      }
      const args = [epoch, makeId(), requestId, oldestIdMs, lookedUp, this.#deps.memoryCount, this.#clock(), callText];
      // What Postgres did not know is good for one run: until the next one, somebody may flush what an earlier run did.
      lookedUp = "0";
      crashPoint("before mutation: run script");
      const startedMs = performance.now();
      const decide = () => this.#decide(mutation.script, [...args, ...record.values, ...mutation.args]);
      const reply = this.#answer(await tries.attempt(decide), epoch, head);
      crashPoint("after mutation: run script");
      if (reply === undefined) {
        continue;
      }
      const isAnswerOfRecord = reply.kind === "LOOK_UP" || reply.kind === "LOAD_FIRST";
      const observes = isAnswerOfRecord || reply.kind === "REFUSED" || reply.kind === "LOAD_LIMITS";
      const events = reply.kind === "OK" ? this.#keepEvents(reply) : [];
      const made =
        reply.kind === "OK" ? madeCommit(reply, epoch, callText, { redisGeneration, headReadCount }) : undefined;
      crashPoint("before mutation: become durable");
      const isDurable = await this.#isDurable(reply, observes, flusher, caller, isAnswerOfRecord, made).finally(() =>
        this.#events.delete(reply.commitId),
      );
      crashPoint("after mutation: become durable");
      if (!isDurable) {
        continue;
      }
      place.took(performance.now() - startedMs);
      switch (reply.kind) {
        case "OK": {
          const { position, commitId, timeMs } = reply;
          return { position, epoch, commitId, timeMs, requestId, replayed: false, durable: this.#acksDurable, events };
        }
        case "REFUSED":
          throw refusalOf(reply, reply.position, epoch);
        case "LOAD_LIMITS":
          throw new LimitsMissing();
        case "LOAD_FIRST":
          await record.load();
          break;
        case "LOOK_UP": {
          const found = await around("mutation: look up", () => lookUp(this.#earlierCommits, mutation, requestId));
          if (found !== undefined) {
            return answerWith(found, mutation, call, true);
          }
          lookedUp = "1";
          break;
        }
        default: {
          const earlier = await earlierOf(this.#earlierCommits, reply);
          const isInPostgres = this.#acksDurable || earlier.entry.position <= (this.#flusher?.head?.position ?? 0);
          return answerWith(earlier, mutation, call, isInPostgres);
        }
      }
    }
  }

  /** Opens the shop for a mutation; undefined: try again. */
  async #openFor(caller: Caller, tries: Tries, hasRun: boolean): Promise<Flusher | undefined> {
    const flusher = await tries.attempt(() => around("mutation: open", () => this.#ready(caller)));
    if (flusher !== undefined && !hasRun) {
      // An opening may take long: who was let in before it may be gone by now, or one too many.
      caller.throwIfEnded();
      this.#admit();
    }
    return flusher;
  }

  /**
   * Runs a script that reads. What it saw is durable when this returns, so it never shows what a crash could undo; and it
   * saw every commit that was acknowledged before. Where Redis acknowledges alone, that is so only for a read that goes on
   * in Postgres (`fromRecord`).
   */
  read(
    script: Script,
    args: readonly (string | number)[],
    due: Due,
    caller: Caller,
    fromRecord = false,
  ): Promise<Observed> {
    return this.#during(false, (place) => this.#read(script, args, due, caller, fromRecord, place));
  }

  async #read(
    script: Script,
    args: readonly (string | number)[],
    due: Due,
    caller: Caller,
    fromRecord: boolean,
    place: Place,
  ): Promise<Observed> {
    this.#gate.refuseFull(false);
    const tries = new Tries("");
    for (;;) {
      caller.throwIfEnded();
      this.fence.refuse();
      if (!this.#deps.postgres.isUp && (this.#acksDurable || fromRecord)) {
        return fromRecord ? raise(unavailable("Postgres")) : await this.#readConfirmed(script, args);
      }
      const flusher = await tries.attempt(() => around("read: open", () => this.#ready(caller)));
      if (flusher === undefined) {
        continue;
      }
      const turn = place.enter();
      if (turn !== undefined) {
        await turn;
        continue; // the stores may be away by now
      }
      const { epoch, head } = flusher;
      const run = () => this.#run(script, [epoch, this.#clock(), ...args]);
      const startedMs = performance.now();
      const raw = await tries.attempt(() => around("read: run script", run));
      if (raw?.kind === "DUE") {
        await around("read: end what is due", () => this.#end(due, caller));
        continue;
      }
      const reply = this.#answer(raw, epoch, head);
      if (reply === undefined) {
        continue;
      }
      const wait = () => this.#isDurable(reply, true, flusher, caller, fromRecord);
      // When Postgres goes away meanwhile, what is known to be durable may do.
      const isDurable = await around("read: become durable", wait).catch((error) =>
        this.#deps.postgres.isUp ? raise(error) : false,
      );
      if (!isDurable) {
        continue;
      }
      if (caller.deadlineMs !== Number.POSITIVE_INFINITY) {
        // The server's own reads come in long rows, and nobody waits for them.
        place.took(performance.now() - startedMs);
      }
      if (reply.kind === "REFUSED") {
        throw refusalOf(reply, reply.position, epoch);
      }
      const { position, payload } = reply as Extract<Reply, { kind: "OK" }>;
      return { position, epoch, payload };
    }
  }

  /**
   * Waits until Postgres has everything this shop committed so far, whatever Redis acknowledges alone and whatever Postgres
   * lost: afterwards a read of Postgres shows it. Returns the position of the newest such commit.
   */
  async observe(caller: Caller): Promise<number> {
    return (await this.read(this.#deps.scripts.observe, [], {}, caller, true)).position;
  }

  /** The same where Redis acknowledges alone; elsewhere everything acknowledged is in Postgres already. */
  async settle(caller: Caller): Promise<void> {
    if (!this.#acksDurable) {
      await this.observe(caller);
    }
  }

  /** Commits the expiry of due holds: of one hold and some SKUs, or of the shop's oldest. Returns whether more may be due. */
  async expire(holdId: string, skus: readonly string[], caller = patientCaller): Promise<boolean> {
    this.fence.refuse();
    const flusher = await this.#ready(caller);
    const { epoch, head } = flusher;
    const args = [epoch, makeId(), this.#deps.memoryCount, this.#clock(), holdId, ...skus];
    const reply = await around("expire: run script", () => this.#decide(this.#deps.scripts.expireHolds, args));
    this.#answer(reply, epoch, head);
    return reply.kind === "AGAIN";
  }

  /** Commits the end of a due period: of one user, or of the shop's oldest (empty id). Returns whether more may be due. */
  async renew(userId: string, caller = patientCaller): Promise<boolean> {
    this.fence.refuse();
    const flusher = await this.#ready(caller);
    const { epoch, head } = flusher;
    const args = [epoch, makeId(), this.#clock(), userId];
    const reply = await around("renew: run script", () => this.#decide(this.#deps.scripts.renewSubscriptions, args));
    this.#answer(reply, epoch, head);
    return reply.kind === "AGAIN";
  }

  /** Hands counts to `lua/load_limits.lua`. False: the log does not hold that commit any more, read again. */
  async loadLimits(args: readonly (string | number)[]): Promise<boolean> {
    const flusher = await this.#ready();
    const { redis, scripts } = this.#deps;
    const load = () => redis.run(scripts.loadLimits, this.keys, [flusher.epoch, ...args]);
    const [kind] = (await around("limits: load", load)) as [string];
    if (kind === "MISMATCH") {
      await this.reopen();
    }
    return kind === "OK";
  }

  /** The position of the log's last entry in Redis; 0 when Redis does not hold this shop. */
  async logPosition(): Promise<number> {
    const [, position] = (await this.#deps.redis.aside(this.#deps.scripts.peek, this.keys, [])) as [string, number];
    return position;
  }

  /** Postgres was asked after the log was written, and has this commit; Redis still had it afterwards, over these connections. */
  confirm({ position, commitId }: Identity, redisGeneration: number): void {
    this.#confirmed = { position, commitId, redisGeneration };
    this.backlog.noteDurable(position);
  }

  /** The epoch that this process works in; undefined before it has opened the shop. */
  get epoch(): number | undefined {
    return this.#flusher?.epoch;
  }

  /** Calls that wait for Postgres in this process. */
  get waitingCallCount(): number {
    return this.#flusher?.waiters.count ?? 0;
  }

  /** Postgres has, up to this position, all that Redis holds of this shop: see Backlog. Not while calls wait for more. */
  nothingWaits(position: number): void {
    if (this.waitingCallCount === 0) {
      this.backlog.nothingWaits(position);
    }
  }

  /** Postgres went away: who only looked need not wait for it. */
  postgresWentAway(): void {
    this.#flusher?.waiters.giveUp();
    this.#gate.letAllIn();
  }

  /** Redis went away: nobody need wait for a turn. */
  redisWentAway(): void {
    this.#gate.letAllIn();
  }

  /** Whether this process has opened it, as far as it knows. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** One flush round, for the sweeper. */
  async sweep(): Promise<void> {
    await (await this.#ready()).sweep();
  }

  /** Rebuilds the live state from Postgres although it looks healthy; an opening under way may keep what is there, so it is waited for. */
  async rebuild(onProgress: (progress: RebuildProgress) => void, mode?: RebuildMode): Promise<ShopHead> {
    await this.#askForMemory();
    while (this.#opening !== undefined) {
      await this.#opening.catch(() => undefined);
    }
    // With nothing awaited in between: another opening could begin, which would be joined instead.
    return this.reopen(true, onProgress, mode);
  }

  /** A full Redis takes nothing that is loaded, and would leave the shop sealed: it is asked first, by a load of nobody's. */
  async #askForMemory(): Promise<void> {
    const { redis, scripts } = this.#deps;
    const load = () => redis.run(scripts.load, this.keys, [makeId(), 0, -1, "clear", "1"]);
    try {
      await around("rebuild: ask for memory", load);
    } catch (error) {
      if (!isReplyError(error)) {
        this.#forgetUnlessFound();
        throw error;
      }
    }
  }

  /**
   * Opens the shop anew; `force` rebuilds it from Postgres although it looks healthy, and so does a script that ended in its
   * middle: the log tells what it did, and a repeat of the call has to find its request id.
   */
  reopen(
    force = false,
    onProgress: (progress: RebuildProgress) => void = () => {},
    mode: RebuildMode = "keep all",
  ): Promise<ShopHead> {
    this.#isOpen = false;
    const onEstimate = (restMs: number): void => {
      const { readyAtMs, refusal } = this.#openingCallers.estimate(restMs);
      this.#flusher?.waiters.refuseLate(readyAtMs, refusal);
    };
    const isForced = force || this.#isHalfDone;
    this.#opening ??= openShop(
      { shopId: this.id, keys: this.keys, ...this.#deps, onProgress, onEstimate, mode },
      isForced,
    )
      .then((head) => {
        this.#isHalfDone &&= !isForced;
        this.#isOpen = true;
        this.#wasFound = true;
        this.backlog.opened(head.position);
        this.fence.opened(force);
        if (this.#flusher !== undefined) {
          this.#flusher.epoch = head.epoch;
          this.#flusher.forgetHead();
        }
        return head;
      })
      .catch((error) => {
        const failure = isReplyError(error) ? redisRefuses(error) : error;
        if (failure instanceof Fenced) {
          this.#wasFound = true;
          this.fence.raise(failure);
        }
        if (failure instanceof Refusal && failure.reason === "SHOP_NOT_FOUND") {
          this.#deps.onUnknown(this.id);
        }
        throw failure;
      })
      .finally(() => {
        this.#opening = undefined;
        this.#openingCallers.end();
        this.#forgetUnlessFound();
      });
    return this.#opening;
  }

  get #acksDurable(): boolean {
    return this.#deps.durability === "postgres";
  }

  /** Ends what is in flight. */
  async close(): Promise<void> {
    await this.#flusher?.stop();
  }

  /** Runs a script of this shop and reads its reply. */
  async #run(script: Script, args: readonly (string | number)[]): Promise<Reply> {
    const { redis, observer } = this.#deps;
    const beganAtMs = performance.now();
    try {
      const raw = await redis.run(script, this.keys, args);
      observer.scriptRan(script.name, performance.now() - beganAtMs);
      return parseReply(raw);
    } catch (error) {
      if (isReplyError(error)) {
        // A key may not be what it has to be: the next call looks, and fences the shop if so.
        this.#isOpen = false;
      }
      throw error;
    }
  }

  /** Runs a script that may commit. */
  async #decide(script: Script, args: readonly (string | number)[]): Promise<Reply> {
    this.backlog.beginDeciding();
    try {
      return await this.#run(script, args);
    } catch (error) {
      if (isHalfDone(error)) {
        this.#isHalfDone = true;
        // Before the caller hears of it: a repeat may come to another process, which knows nothing. Who calls next hears of a failure.
        await this.#ready().catch(() => {});
      }
      throw error;
    } finally {
      this.backlog.endDeciding();
    }
  }

  #clock(): string | number {
    return this.#deps.clock?.() ?? "";
  }

  /** Refuses a mutation before it touches Redis when it could not become durable soon. */
  #admit(): void {
    this.fence.refuse();
    if (!this.#deps.postgres.isUp) {
      throw unavailable("Postgres");
    }
    if (!this.#deps.redisState.isUp) {
      throw unavailable("Redis");
    }
    // Every reply tells the position that all processes together have reached; how far Postgres is, own flushes and others' hints.
    if (this.backlog.isFull(this.#deps.maxBacklogCommits)) {
      throw overloaded("too many commits of this shop wait for Postgres");
    }
  }

  /**
   * A read while Postgres is away. It is answered only when what it saw is the newest commit known to be durable, and Redis is
   * the server that had it then: another one may have lost commits that were acknowledged, and nobody could tell.
   */
  async #readConfirmed(script: Script, args: readonly (string | number)[]): Promise<Observed> {
    const [flusher, confirmed] = [this.#openFlusher, this.#confirmed];
    if (flusher === undefined || confirmed === undefined || confirmed.position < this.backlog.durablePosition) {
      throw unavailable("Postgres");
    }
    const { epoch } = flusher;
    const run = () => this.#run(script, [epoch, this.#clock(), ...args]);
    const reply = await around("read alone: run script", run);
    // What is due would have to be committed first, and nothing can be.
    const isAnswer = reply.kind === "OK" || reply.kind === "REFUSED";
    const isSame = isAnswer && reply.position === confirmed.position && reply.commitId === confirmed.commitId;
    if (!isAnswer || !isSame || this.#deps.redis.generation !== confirmed.redisGeneration) {
      throw unavailable("Postgres");
    }
    if (reply.kind === "REFUSED") {
      throw refusalOf(reply, reply.position, epoch);
    }
    return { position: reply.position, epoch, payload: reply.payload };
  }

  /** The flusher of a shop that is open. */
  get #openFlusher(): Flusher | undefined {
    return this.#isOpen && !this.#isHalfDone ? this.#flusher : undefined;
  }

  /** Parses the events of a commit once, for the answer and for the flush that takes it along. */
  #keepEvents(reply: { readonly commitId: string; readonly payload: unknown }): Record<string, object>[] {
    const events = JSON.parse(reply.payload as string) as Record<string, object>[];
    this.#events.set(reply.commitId, events);
    return events;
  }

  async #ready(caller = patientCaller): Promise<Flusher> {
    let flusher = this.#openFlusher;
    while (flusher === undefined) {
      const head = await this.#openingCallers.wait(this.reopen(), caller);
      this.#flusher ??= this.#createFlusher(head.epoch);
      // The opening may have begun before a script ended in its middle.
      flusher = this.#isHalfDone ? undefined : this.#flusher;
    }
    return flusher;
  }

  #createFlusher(epoch: number): Flusher {
    return createFlusher({
      ...this.#deps,
      shopId: this.id,
      keys: this.keys,
      connection: this.#connection,
      epoch,
      reopen: async () => (await this.reopen()).epoch,
      eventsOf: (commitId) => this.#events.get(commitId),
      onDurable: (before, entries) => this.#deps.onDurable(this.id, before, entries),
      onFenced: (fenced) => this.fence.raise(fenced),
      onRound: (durable, { position: logPosition, redisGeneration, isRead }) => {
        this.confirm(durable, redisGeneration);
        this.fence.roundEnded(durable.position, logPosition, isRead);
      },
      postgres: this.#deps.postgres,
    });
  }

  /**
   * The answer in a reply; undefined when the script has to run again. `epoch` and `head` are what was known when it was
   * sent: a shop that is sealed, of another epoch, or behind that head (Redis lost its tail) is opened first.
   */
  #answer(reply: Reply | undefined, epoch: number, head: ShopHead | undefined): Answer | undefined {
    if (reply === undefined || reply.kind === "DUE") {
      return undefined;
    }
    if (reply.kind === "MISMATCH" || (head !== undefined && reply.position < head.position)) {
      if (this.#flusher?.epoch === epoch) {
        this.#isOpen = false;
      }
      return undefined;
    }
    this.backlog.reached(reply.position);
    return reply.kind === "AGAIN" ? undefined : reply;
  }

  /** Waits until what a script saw is in Postgres. False: what it saw is gone, run it again. */
  async #isDurable(
    reply: { readonly position: number; readonly commitId: string },
    observes: boolean,
    flusher: Flusher,
    caller: Caller,
    inAnyCase = false,
    made?: MadeCommit | undefined,
  ): Promise<boolean> {
    if (!this.#acksDurable && !inAnyCase) {
      // Nobody waits, but the flush must still come along: one waiter keeps it running.
      if (flusher.waiters.count === 0) {
        void flusher.waiters.wait(reply.position, reply.commitId, false, patientCaller);
      }
      flusher.wake();
      return true;
    }
    if (observes && !this.#deps.postgres.isUp) {
      throw unavailable("Postgres");
    }
    const released = flusher.waiters.wait(reply.position, reply.commitId, observes, caller, made);
    flusher.wake();
    const release = await released;
    if (release === "unavailable") {
      throw unavailable("Postgres");
    }
    if (release instanceof Refusal) {
      throw release;
    }
    return release === "durable";
  }

  /** Ends what a read found due. */
  async #end({ userId, holdId = "", skus = [] }: Due, caller: Caller): Promise<void> {
    await (userId === undefined ? this.expire(holdId, skus, caller) : this.renew(userId, caller));
  }
}

/** A commit, by what it is told apart from others. */
export interface Identity {
  readonly position: number;
  readonly commitId: string;
}

/** Whose due holds, or whose due period, a read has to see ended. */
export interface Due {
  readonly holdId?: string;
  readonly skus?: readonly string[];
  readonly userId?: string;
}

function raise(error: unknown): never {
  throw error;
}
