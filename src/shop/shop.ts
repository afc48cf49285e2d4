import type { DescMessage } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import { around, crashPoint } from "../crash-point.ts";
import { ForgetfulMap } from "../forgetful-map.ts";
import { findByRequestId, readCommit } from "../postgres/commits.ts";
import type { FlushConnection } from "../postgres/connection.ts";
import { isPostgresBusy, isPostgresDown } from "../postgres/errors.ts";
import type { ShopHead } from "../postgres/flush-statement.ts";
import type { Database } from "../postgres/schema.ts";
import { type Reason, Refusal } from "../refusal.ts";
import { type Admission, type Gate, overloaded, Place } from "./admission.ts";
import { type Alarm, Fenced, isHalfDone, isReplyError, redisRefuses } from "./fence.ts";
import { createFlusher, type Flusher } from "./flusher.ts";
import { idTimeMs, makeId } from "./ids.ts";
import { type ShopKeys, shopKeys } from "./keys.ts";
import { type Call, type LogEntry, parseEntry } from "./log-entry.ts";
import type { MadeCommit } from "./made-commits.ts";
import { firstDifference, requestJson } from "./messages.ts";
import { openShop, type RebuildMode } from "./open-shop.ts";
import { OpeningCallers } from "./opening.ts";
import type { RebuildProgress } from "./progress.ts";
import { RedisUnavailable, type ScriptRunner } from "./redis.ts";
import { existsRefusal, refusalOf } from "./refusals.ts";
import { type Answer, parseReply, type Reply } from "./reply.ts";
import type { Script, Scripts } from "./scripts.ts";
import type { ShopObserver } from "./shop-observer.ts";
import type { StoreState } from "./store-state.ts";
import { type Caller, patientCaller } from "./waiters.ts";

/** One mutating RPC on its way to a commit. */
export interface Mutation {
  /** The RPC's name, `PlaceOrder`. */
  readonly rpc: string;
  readonly script: Script;
  readonly request: { readonly desc: DescMessage; readonly message: object };
  /** The caller's request id; empty = one is made for this call. */
  readonly requestId: string;
  readonly principal: string;
  /** The `traceparent` that the commit keeps; default none. */
  readonly traceParent?: string;
  /** What the script wants after the arguments every call has. */
  readonly args: readonly (string | number)[];
  /** Ids of the request that a thing which ended long ago may have used; they decide whether Postgres is asked. */
  readonly ids?: readonly string[];
  /** Finds in Postgres what those ids were used for: the position of the commit to answer with, or throws a Refusal. */
  readonly lookUp?: (db: Kysely<Database>) => Promise<number | undefined>;
  /** The refusal when the resource's id was used by another body, or its state was reached by another one. */
  readonly existsReason?: Reason;
  /** What that refusal says besides the field that differs: the resource's id, an order's state and as of when. */
  readonly existsMetadata?: Readonly<Record<string, string>>;
  /**
   * Reads from Postgres what the script needs of a thing that Redis let go; the script asks for it with LOAD_FIRST, and gets
   * `as_of_position` and `record` in front of `args`.
   */
  readonly record?: (db: Kysely<Database>) => Promise<StoredRecord>;
  /** Reads the record before the first run: Redis hardly ever has it. */
  readonly preloads?: boolean;
  /** A later step of a purchase that has begun, which goes before those that have not. */
  readonly isLaterStep?: boolean;
  /** Who waits for the answer. */
  readonly caller: Caller;
}

/** A row of Postgres, and the commit it is as of. */
export interface StoredRecord {
  /** The shop's durable head when the row was read. */
  readonly asOf: number;
  /** With the names of the events' JSON; null = there is none. */
  readonly row: object | null;
}

/** What a mutation did, or once did. */
export interface Committed {
  readonly position: number;
  readonly epoch: number;
  readonly commitId: string;
  readonly timeMs: number;
  readonly requestId: string;
  readonly replayed: boolean;
  readonly durable: boolean;
  /** The commit's events as in the log: `[{order_placed: {...}}]`. */
  readonly events: readonly Record<string, object>[];
}

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

/** How long a call whose outcome is unknown is repeated before the caller has to do it, in milliseconds. */
const unknownOutcomeMs = 3000;

/** How often a fence that lasts is logged again, in milliseconds. */
const alarmMs = 60_000;

/** How far a caller's clock may be ahead, in milliseconds; `lua/include/begin.lua` allows as much. */
const clockSkewMs = 60_000;

/**
 * One shop in this process: runs its scripts, keeps them in the right epoch, and answers only what Postgres has.
 * It holds nothing that outlives a request but where the shop stands.
 */
export class Shop {
  readonly id: string;
  readonly keys: ShopKeys;
  readonly #deps: ShopDeps;
  readonly #connection: FlushConnection;
  readonly #gate: Gate;
  #flusher: Flusher | undefined;
  #opening: Promise<ShopHead> | undefined;
  readonly #openingCallers = new OpeningCallers();
  #isOpen = false;
  /** Whether a script that commits ended in its middle: its commit may be in the log while the rest of its writes is missing. */
  #isHalfDone = false;
  /** Why this shop stands still, when it does; and when that was logged, in milliseconds. */
  #fenced: Fenced | undefined;
  #alarmedAtMs = Number.NEGATIVE_INFINITY;
  #lastPosition = 0;
  /** Mutations and reads that are not over. */
  #callCount = 0;
  /** Whether an opening has begun, which tells when there is no such shop. */
  #wasLookedFor = false;
  /** Mutations that were sent to Redis and have no reply yet: each may be a commit already. */
  #decidingCount = 0;
  /** The newest position known to be durable, whoever made it so. */
  #durablePosition = 0;
  /** When that last moved on, or when commits began to wait for it. */
  #progressAtMs = 0;
  /** The newest commit known to be durable that Redis still had afterwards, over connections of which this is the number. */
  #confirmed: (Identity & { readonly redisGeneration: number }) | undefined;
  /** The events of commits that callers of this process wait for, by commit id. */
  readonly #events = new ForgetfulMap<string, Record<string, object>[]>();

  constructor(id: string, deps: ShopDeps, connection: FlushConnection) {
    this.id = id;
    this.keys = shopKeys(id);
    this.#deps = deps;
    this.#connection = connection;
    this.#gate = deps.admission.openGate();
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
    this.#refuseFuture(mutation, ids, times);
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
      if (this.#callCount === 0 && !this.#wasLookedFor) {
        // Refused before that: there may be no such shop, and ids that somebody makes up must not stay.
        this.#deps.onUnknown(this.id);
      }
    }
  }

  async #commit(mutation: Mutation, requestId: string, oldestIdMs: number, place: Place): Promise<Committed> {
    const { script, caller } = mutation;
    const call: Call = {
      rpc: mutation.rpc,
      request_id: requestId,
      principal: mutation.principal,
      request: requestJson(mutation.request.desc, mutation.request.message, requestId),
      ...traceOf(mutation.traceParent),
    };
    const callText = JSON.stringify(call);
    const tries = new Tries(requestId);
    let lookedUp = "0";
    let record: readonly (string | number)[] = mutation.record === undefined ? [] : [0, ""];
    let recordEpoch = 0;
    let hasRun = false;
    caller.throwIfEnded();
    this.#admit();
    for (;;) {
      caller.throwIfEnded();
      const isOpen = this.#openFlusher !== undefined;
      const flusher =
        this.#openFlusher ?? (await tries.attempt(() => around("mutation: open", () => this.#ready(caller))));
      if (flusher === undefined) {
        continue;
      }
      if (!isOpen && !hasRun) {
        // An opening may take long: who was let in before it may be gone by now, or one too many.
        caller.throwIfEnded();
        this.#admit();
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
      if (mutation.record !== undefined && recordEpoch !== epoch) {
        // What was read in another epoch may be of a history that is gone.
        record = mutation.preloads === true ? await this.#readRecord(mutation.record) : [0, ""];
        recordEpoch = epoch;
        // The read may have taken long: nobody may wait any more.
        caller.throwIfEnded();
      }
      const args = [epoch, makeId(), requestId, oldestIdMs, lookedUp, this.#deps.memoryCount, this.#clock(), callText];
      // What Postgres did not know is good for one run: until the next one, somebody may flush what an earlier run did.
      lookedUp = "0";
      crashPoint("before mutation: run script");
      const startedMs = performance.now();
      const reply = this.#answer(
        await tries.attempt(() => this.#decide(script, [...args, ...record, ...mutation.args])),
        epoch,
        head,
      );
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
      if (reply.kind === "LOOK_UP") {
        const found = await around("mutation: look up", () => this.#lookUp(mutation, requestId));
        if (found !== undefined) {
          return this.#answerFrom(found, mutation, call, true);
        }
        lookedUp = "1";
        continue;
      }
      if (reply.kind === "LOAD_FIRST") {
        const { record: load } = mutation;
        if (load === undefined) {
          throw new Error(`${mutation.rpc} asked for a record that it does not have`);
        }
        record = await around("mutation: load first", async () => recordArguments(await load(this.#deps.db)));
        continue;
      }
      if (reply.kind === "LOAD_LIMITS") {
        throw new LimitsMissing();
      }
      if (reply.kind === "OK") {
        const { position, commitId, timeMs } = reply;
        return { position, epoch, commitId, timeMs, requestId, replayed: false, durable: this.#acksDurable, events };
      }
      if (reply.kind === "REFUSED") {
        throw refusalOf(reply, reply.position, epoch);
      }
      const entry =
        reply.fields === undefined ? await this.#readCommit(reply.at) : parseEntry(String(reply.at), reply.fields);
      return this.#answerFrom(
        { entry, kind: reply.kind },
        mutation,
        call,
        this.#acksDurable || entry.position <= (this.#flusher?.head?.position ?? 0),
      );
    }
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
      this.#refuseFenced();
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
    this.#refuseFenced();
    const flusher = await this.#ready(caller);
    const { epoch, head } = flusher;
    const args = [epoch, makeId(), this.#deps.memoryCount, this.#clock(), holdId, ...skus];
    const reply = await around("expire: run script", () => this.#decide(this.#deps.scripts.expireHolds, args));
    this.#answer(reply, epoch, head);
    return reply.kind === "AGAIN";
  }

  /** Commits the end of a due period: of one user, or of the shop's oldest (empty id). Returns whether more may be due. */
  async renew(userId: string, caller = patientCaller): Promise<boolean> {
    this.#refuseFenced();
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
    this.noteDurable(position);
  }

  /** The epoch that this process works in; undefined before it has opened the shop. */
  get epoch(): number | undefined {
    return this.#flusher?.epoch;
  }

  /** The newest position that this process knows to be durable. */
  get durablePosition(): number {
    return this.#durablePosition;
  }

  /** Somebody made this position durable. */
  noteDurable(position: number): void {
    if (Number.isSafeInteger(position) && position > this.#durablePosition) {
      this.#durablePosition = position;
      this.#progressAtMs = performance.now();
    }
  }

  /** Commits that this process knows of and that are not known to be durable. */
  get waitingCommitCount(): number {
    return Math.max(0, this.#lastPosition - this.#durablePosition);
  }

  /**
   * Postgres has, up to this position, all that Redis holds of this shop. Commits that this process saw beyond it are gone with
   * a Redis that lost them: they would be taken for a backlog until the shop's next reply, and a full one lets no call get one.
   */
  nothingWaits(position: number): void {
    if (this.#decidingCount === 0 && this.waitingCallCount === 0) {
      this.#lastPosition = Math.min(this.#lastPosition, Math.max(position, this.#durablePosition));
    }
  }

  /** How long commits have waited while none became durable, in milliseconds; 0 when none waits. */
  get stalledMs(): number {
    return this.waitingCommitCount === 0 ? 0 : performance.now() - this.#progressAtMs;
  }

  /** Calls that wait for Postgres in this process. */
  get waitingCallCount(): number {
    return this.#flusher?.waiters.count ?? 0;
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

  /** Why this shop stands still until its stores agree again; undefined: it does not. */
  get alarm(): Alarm | undefined {
    return this.#fenced?.alarm;
  }

  /**
   * Ends a fence whose commits are out of the way: Postgres has them, taken there by another process or by an opening of the
   * shop, or Redis lost them and nothing waits to be recorded. Nobody commits to a fenced shop, so no flush would tell.
   */
  endFence(durablePosition: number, nothingWaits: boolean): void {
    if (this.#fenced?.alarm === "redis_refuses") {
      return; // only who reads the log knows that it can be read
    }
    const isPoison = this.#fenced?.alarm === "poison_commit";
    if (nothingWaits || (isPoison && durablePosition >= (this.#fenced?.from ?? 0))) {
      this.#fenced = undefined;
    }
  }

  /** One flush round, for the sweeper. */
  async sweep(): Promise<void> {
    await (await this.#ready()).sweep();
  }

  /** Rebuilds the live state from Postgres although it looks healthy; an opening under way may keep what is there, so it is waited for. */
  async rebuild(onProgress: (progress: RebuildProgress) => void, mode?: RebuildMode): Promise<ShopHead> {
    while (this.#opening !== undefined) {
      await this.#opening.catch(() => undefined);
    }
    return this.reopen(true, onProgress, mode);
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
    this.#wasLookedFor = true;
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
        this.#lastPosition = head.position;
        this.#durablePosition = head.position;
        if (force || this.#fenced?.alarm !== "poison_commit") {
          this.#fenced = undefined;
        }
        if (this.#flusher !== undefined) {
          this.#flusher.epoch = head.epoch;
          this.#flusher.forgetHead();
        }
        return head;
      })
      .catch((error) => {
        const failure = isReplyError(error) ? redisRefuses(error) : error;
        if (failure instanceof Fenced) {
          this.#fence(failure);
        }
        if (failure instanceof Refusal && failure.reason === "SHOP_NOT_FOUND") {
          this.#deps.onUnknown(this.id);
        }
        throw failure;
      })
      .finally(() => {
        this.#opening = undefined;
        this.#openingCallers.end();
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
    this.#decidingCount += 1;
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
      this.#decidingCount -= 1;
    }
  }

  #clock(): string | number {
    return this.#deps.clock?.() ?? "";
  }

  /** Refuses a mutation before it touches Redis when it could not become durable soon. */
  #admit(): void {
    this.#refuseFenced();
    if (!this.#deps.postgres.isUp) {
      throw unavailable("Postgres");
    }
    if (!this.#deps.redisState.isUp) {
      throw unavailable("Redis");
    }
    // Every reply tells the position that all processes together have reached; how far Postgres is, own flushes and others' hints.
    if (this.#lastPosition + this.#decidingCount - this.#durablePosition >= this.#deps.maxBacklogCommits) {
      throw overloaded("too many commits of this shop wait for Postgres");
    }
  }

  /**
   * A read while Postgres is away. It is answered only when what it saw is the newest commit known to be durable, and Redis is
   * the server that had it then: another one may have lost commits that were acknowledged, and nobody could tell.
   */
  async #readConfirmed(script: Script, args: readonly (string | number)[]): Promise<Observed> {
    const [flusher, confirmed] = [this.#openFlusher, this.#confirmed];
    if (flusher === undefined || confirmed === undefined || confirmed.position < this.#durablePosition) {
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

  /**
   * Whether Postgres is asked for an id is decided by the time it carries. One from the future would one day be younger than
   * what was let go although it was used before that: it would take effect a second time.
   */
  #refuseFuture({ request }: Mutation, ids: readonly string[], times: readonly number[]): void {
    const latestMs = Math.max(Date.now(), this.#deps.clock?.() ?? 0) + clockSkewMs;
    const id = ids[times.findIndex((timeMs) => timeMs > latestMs)];
    if (id !== undefined) {
      const values = request.message as Readonly<Record<string, unknown>>;
      const field = request.desc.fields.find(({ localName }) => values[localName] === id)?.name ?? "request_id";
      const description = "carries a time of more than a minute from now";
      throw new Refusal("VALIDATION_FAILED", `${field} ${description}`, { fieldViolations: [{ field, description }] });
    }
  }

  #refuseFenced(): void {
    if (this.#fenced !== undefined) {
      throw this.#fenced;
    }
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
      onFenced: (fenced) => this.#fence(fenced),
      onRound: (durable, { position: logPosition, redisGeneration, isRead }) => {
        const durablePosition = durable.position;
        this.confirm(durable, redisGeneration);
        const from = this.#fenced?.alarm === "poison_commit" ? this.#fenced.from : 0;
        // The log was read, so that what Redis refused to read is mended.
        const isReadable = isRead && this.#fenced?.alarm === "redis_refuses";
        if (isReadable || durablePosition >= from || logPosition < from) {
          this.#fenced = undefined;
        }
      },
      postgres: this.#deps.postgres,
    });
  }

  /** Nothing is skipped: the shop stops until an operator looked. Logged when it begins, and once a minute while it lasts. */
  #fence(fenced: Fenced): void {
    const known = this.#fenced;
    this.#fenced = fenced;
    const isKnown = known?.alarm === fenced.alarm && known.from === fenced.from;
    if (isKnown && performance.now() - this.#alarmedAtMs < alarmMs) {
      return;
    }
    this.#alarmedAtMs = performance.now();
    const { alarm, facts, message } = fenced;
    if (!isKnown) {
      this.#deps.observer.fenced(alarm);
    }
    this.#deps.logger.error({ alarm, shop: this.id, ...facts }, `the shop is fenced: ${message}`);
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
    if (this.#lastPosition <= this.#durablePosition && reply.position > this.#durablePosition) {
      this.#progressAtMs = performance.now();
    }
    this.#lastPosition = reply.position;
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

  async #readRecord(read: NonNullable<Mutation["record"]>): Promise<readonly (string | number)[]> {
    return recordArguments(await around("mutation: read record", () => read(this.#deps.db)));
  }

  /** What Postgres knows of a call's ids, which Redis let go. */
  async #lookUp(mutation: Mutation, requestId: string): Promise<Known | undefined> {
    const { db, requestRetentionMs } = this.#deps;
    const replayed = await findByRequestId(db, this.id, requestId, requestRetentionMs);
    if (replayed !== undefined) {
      return { entry: replayed, kind: "REPLAYED" };
    }
    const at = await mutation.lookUp?.(db);
    return at === undefined ? undefined : { entry: await this.#readCommit(at), kind: "EXISTS" };
  }

  async #readCommit(position: number): Promise<LogEntry> {
    const entry = await around("mutation: read commit", () => readCommit(this.#deps.db, this.id, position));
    if (entry === undefined) {
      throw new Error(`commit ${position} of shop ${this.id} is neither in the log nor in Postgres`);
    }
    return entry;
  }

  /** Answers with an earlier commit, when it was made by the same request. */
  #answerFrom({ entry, kind }: Known, mutation: Mutation, call: Call, durable: boolean): Committed {
    const stored = JSON.parse(entry.call) as Call;
    // Personal data is hashed with the first call's request id; the same salt makes the two comparable.
    const { desc, message } = mutation.request;
    const repeated =
      stored.request_id === call.request_id ? call.request : requestJson(desc, message, stored.request_id);
    const field = stored.rpc === call.rpc ? firstDifference(stored.request, repeated) : "rpc";
    if (field !== undefined) {
      const where = { position: String(entry.position), epoch: String(entry.epoch) };
      if (kind === "REPLAYED") {
        throw new Refusal(
          "REQUEST_ID_REUSED",
          `request id "${call.request_id}" was used by another call: "${field}" differs`,
          {
            metadata: { field, ...where },
          },
        );
      }
      const { existsReason = "REQUEST_ID_REUSED", existsMetadata } = mutation;
      throw existsRefusal(existsReason, { field, ...where, ...existsMetadata });
    }
    return {
      position: entry.position,
      epoch: entry.epoch,
      commitId: entry.commitId,
      timeMs: entry.timeMs,
      requestId: stored.request_id,
      replayed: true,
      durable,
      events: JSON.parse(entry.events) as Record<string, object>[],
    };
  }
}

/** The log's entry of a commit, from the reply of the script that made it. */
function madeCommit(
  { position, commitId, timeMs, payload, previousCommitId }: Extract<Reply, { kind: "OK" }>,
  epoch: number,
  call: string,
  before: Pick<MadeCommit, "redisGeneration" | "headReadCount">,
): MadeCommit | undefined {
  const entry = { position, commitId, epoch, timeMs, call, events: payload as string, private: "" };
  return previousCommitId === undefined ? undefined : { entry, previousCommitId, ...before };
}

/** What a commit keeps of the trace it is part of: nothing where there is none, as before there were traces. */
export function traceOf(traceParent: string | undefined): Pick<Call, "trace_parent"> {
  return traceParent ? { trace_parent: traceParent } : {};
}

/** A record as scripts take it. */
function recordArguments({ asOf, row }: StoredRecord): readonly (string | number)[] {
  return [asOf, JSON.stringify(row)];
}

/** A call is refused because a store is away. */
export class StoreUnavailable extends Refusal {
  readonly store: "Postgres" | "Redis";

  constructor(store: "Postgres" | "Redis", advice: string, metadata: Readonly<Record<string, string>> = {}) {
    super("SHOP_UNAVAILABLE", `${store} does not answer; ${advice}`, { retryMs: 1000, metadata });
    this.store = store;
  }
}

/** Tells a caller, before anything was done, that a store is away. */
export function unavailable(store: "Postgres" | "Redis"): StoreUnavailable {
  return new StoreUnavailable(store, "nothing was changed");
}

function raise(error: unknown): never {
  throw error;
}

/** A commit, by what it is told apart from others. */
export interface Identity {
  readonly position: number;
  readonly commitId: string;
}

/** An earlier commit that answers a call. */
interface Known {
  readonly entry: LogEntry;
  readonly kind: "REPLAYED" | "EXISTS";
}

/** Whose due holds, or whose due period, a read has to see ended. */
export interface Due {
  readonly holdId?: string;
  readonly skus?: readonly string[];
  readonly userId?: string;
}

/** A product gets its first limit after it was sold: what users had of it has to be loaded first. */
export class LimitsMissing extends Error {}

/** Repeats what Redis did not answer. The request id makes a repeat harmless, so the caller need not see a lost reply. */
class Tries {
  readonly #requestId: string;
  #unknownSinceMs: number | undefined;
  #count = 0;

  constructor(requestId: string) {
    this.#requestId = requestId;
  }

  /** What `run` gives; undefined = try again; throws SHOP_UNAVAILABLE when the caller has to. */
  async attempt<Value>(run: () => Promise<Value>): Promise<Value | undefined> {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof RedisUnavailable)) {
        throw isPostgresDown(error) || isPostgresBusy(error) ? this.#unavailable("Postgres") : error;
      }
      if (error.outcome === "unknown") {
        this.#unknownSinceMs ??= performance.now();
      }
      if (this.#unknownSinceMs === undefined || performance.now() - this.#unknownSinceMs > unknownOutcomeMs) {
        throw this.#unavailable("Redis");
      }
      this.#count += 1;
      await new Promise((resolve) => setTimeout(resolve, Math.min(5 * 2 ** this.#count, 200)));
      return undefined;
    }
  }

  #unavailable(store: "Postgres" | "Redis"): Refusal {
    if (this.#unknownSinceMs === undefined) {
      return unavailable(store);
    }
    const metadata = this.#requestId === "" ? {} : { request_id: this.#requestId };
    return new StoreUnavailable(store, "repeat with the same request id to learn the outcome", metadata);
  }
}
