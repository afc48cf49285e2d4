import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Doors } from "../helpers/holdfast.ts";
import { isLostConnection } from "../helpers/load.ts";
import type { CallRecord } from "../history/history.ts";
import { type CommitSeen, type Outcome, send } from "../model/caller.ts";
import type { Call } from "../model/decide.ts";
import { type Belongings, bind, keep } from "./calls.ts";
import { createDice, type Dice } from "./dice.ts";
import type { Scenario } from "./scenarios.ts";

/** A mutation that was accepted, as its caller was told. */
export interface Accepted {
  readonly call: Call;
  readonly commit: CommitSeen;
}

/** What callers need. */
export interface CallersOptions {
  readonly shopId: string;
  readonly seed: number;
  readonly callerCount: number;
  readonly scenario: Scenario;
  /** The servers that callers know of now; a call that is repeated goes to the next one. */
  readonly servers: () => readonly Doors[];
}

/** Callers that call until they are told to settle. */
export interface Callers {
  readonly accepted: readonly Accepted[];
  /** Every call of the shop, as its caller lived it. */
  readonly calls: readonly CallRecord[];
  /** Shops that were created besides. */
  readonly shopIds: readonly string[];
  /** Throws what is wrong so far. */
  check(): void;
  /** Has every caller make some more calls, and resolves when the outcome of all is known. Rejects with what is wrong. */
  settle(moreCalls: number): Promise<void>;
}

/** Share of calls that repeat an accepted one: half under its request id, half under another one. */
const repeatShare = 8;
/** How long an attempt may take, in milliseconds. */
const attemptTimeoutMs = 2500;
/** How long a caller repeats a call whose outcome is unknown, in milliseconds. */
const patienceMs = 40_000;
const laterReasons = ["SHOP_UNAVAILABLE", "OVERLOADED", "RATE_LIMITED"];
const unknownCodes = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.ResourceExhausted]);
/** What makes something by the id in its request: repeated under another request id, it answers with the first commit. */
const makers = new Set(["PlaceOrder", "HoldStock"]);

/** Starts callers on a shop that has what `stageShop` puts in. */
export function startCallers(options: CallersOptions): Callers {
  const { shopId, seed, callerCount, scenario, servers } = options;
  const accepted: Accepted[] = [];
  const calls: CallRecord[] = [];
  const shopIds: string[] = [];
  const later = new Set([...laterReasons, ...(scenario.fences === true ? ["SHOP_FENCED"] : [])]);
  let leftCalls = Number.POSITIVE_INFINITY;
  let failure: unknown;

  const callOnce = async (call: Call, where: string, index: number): Promise<Outcome> => {
    const invokedMs = performance.now();
    for (let attempt = 0; ; attempt += 1) {
      const known = servers();
      const doors = known[(index + attempt) % known.length] as Doors;
      const attemptMs = performance.now();
      const outcome = await send(doors, where, call, attemptTimeoutMs).catch((error) => {
        if (!isUnknown(error)) throw new Error(`${describe(call)} was neither answered nor refused: ${error}`);
        return undefined;
      });
      const isLater = outcome?.kind === "refused" && later.has(outcome.reason);
      if (outcome !== undefined && !isLater) {
        if (where === shopId) calls.push({ call, invokedMs, attemptMs, returnedMs: performance.now(), outcome });
        return outcome;
      }
      if (performance.now() > invokedMs + patienceMs) {
        throw new Error(`${describe(call)} has no outcome after ${patienceMs} ms: ${JSON.stringify(outcome)}`);
      }
      await sleep(Math.min(20 * (attempt + 1), 200));
    }
  };

  const note = (call: Call, outcome: Outcome, mine: Belongings): void => {
    if (outcome.kind === "refused") {
      if (outcome.reason === "SHOP_FENCED") throw new Error(`${describe(call)} met a fenced shop`);
      return;
    }
    keep(call, outcome.response, mine);
    if (outcome.commit !== undefined) {
      if (outcome.commit.durable !== true) throw new Error(`${describe(call)} was acknowledged before it was durable`);
      accepted.push({ call, commit: outcome.commit });
    }
  };

  const repeat = async ({ call, commit }: Accepted, mine: Belongings, index: number): Promise<void> => {
    const isOther = makers.has(call.rpc) && mine.dice.between(0, 1) === 1;
    const again = isOther ? { ...call, requestId: mine.fresh("r") } : call;
    const outcome = await callOnce(again, shopId, index);
    const same = outcome.kind === "answered" && outcome.commit;
    if (!same || same.position !== commit.position || same.commit_id !== commit.commit_id || same.replayed !== true) {
      const told = JSON.stringify(outcome);
      throw new Error(`${describe(again)} repeats the commit at ${commit.position}, and was told ${told}`);
    }
  };

  const callNext = async (mine: Belongings, index: number): Promise<void> => {
    if (accepted.length > 0 && mine.dice.between(1, 100) <= repeatShare) {
      await repeat(mine.dice.from(accepted), mine, index);
      return;
    }
    const call = bind(mine.dice.weighted(scenario.mix), mine);
    if (call.rpc === "CreateShop") {
      const fresh = `${shopId}-${mine.fresh("s")}`;
      await callOnce(call, fresh, index);
      shopIds.push(fresh);
      return;
    }
    note(call, await callOnce(call, shopId, index), mine);
  };

  const caller = async (name: number): Promise<void> => {
    const mine = createBelongings(name, createDice(seed * 1000 + name));
    for (let made = 0; failure === undefined; made += 1) {
      if (leftCalls <= 0) return;
      leftCalls -= 1;
      await callNext(mine, name + made).catch((error) => {
        failure ??= error;
      });
    }
  };
  const check = (): void => {
    if (failure !== undefined) throw failure;
  };
  const working = Promise.all(Array.from({ length: callerCount }, (_, name) => caller(name)));

  return {
    accepted,
    calls,
    shopIds,
    check,
    settle: async (moreCalls) => {
      leftCalls = moreCalls * callerCount;
      await working;
      check();
    },
  };
}

function createBelongings(name: number, dice: Dice): Belongings {
  let count = 0;
  return {
    dice,
    fresh: (kind) => {
      count += 1;
      return `${kind}${name}-${count}`;
    },
    holds: [],
    pending: [],
    paid: [],
    users: ["u0", "u1", "u2"],
    unlimited: [],
  };
}

/** Whether an error leaves open what became of a call. */
function isUnknown(error: unknown): boolean {
  return error instanceof ConnectError && (unknownCodes.has(error.code) || isLostConnection(error));
}

function describe({ rpc, requestId, request }: Call): string {
  return `${rpc} ${requestId} ${JSON.stringify(request)}`;
}
