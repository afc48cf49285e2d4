import type { Kysely } from "kysely";
import { isPostgresBusy, isPostgresDown } from "./errors.ts";
import { type Append, appendCommits, appendCommitsOfMany } from "./flush-statement.ts";
import type { Database } from "./schema.ts";

/**
 * Gathers the appends of the shops that share a flush connection: what comes while a statement runs goes with the next one,
 * all shops together, so that a thousand shops with an order each cost little more than one shop with a thousand. No timer.
 */
export interface AppendQueue {
  /**
   * Appends a shop's commits when it is its turn. False: somebody else was first, and nothing was written. An error is that
   * of this shop alone: a statement that fails is repeated shop by shop. Code 55P03: somebody else holds the shop's row.
   */
  append(append: Append): Promise<boolean>;
}

/** What a queue needs of its connection. */
export interface AppendQueueOptions {
  /** Runs `work` when everything the connection was given before is done. */
  readonly inTurn: (work: () => Promise<void>) => Promise<void>;
  /** The connection as it is now, undefined when there is none: for whoever has the turn, and never another one. */
  readonly session: () => Session | undefined;
}

/** A connection while it lives. */
interface Session {
  readonly db: Kysely<Database>;
}

/** Characters of calls and events that one statement takes of several shops; an order has about 1,000. */
const maxCharacters = 1_000_000;

/** An append that waits for its turn. */
interface Waiting extends Append {
  /** On which its head was read. */
  readonly session: Session;
  readonly resolve: (isDone: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Somebody else holds the row of a shop just now; an append that shares its statement does not wait for it. */
class RowHeld extends Error {
  /** That of a lock that could not be had in time, which is what a shop that appends alone is told. */
  readonly code = "55P03";

  constructor() {
    super("somebody else holds the row of the shop");
  }
}

/** What a query is told whose connection is gone. */
export function flushConnectionLost(): Error {
  return new Error("the flush connection was lost");
}

/** Creates the queue of one connection. */
export function createAppendQueue({ inTurn, session }: AppendQueueOptions): AppendQueue {
  const waiting: Waiting[] = [];

  /** Shops whose own append failed last time: a statement that they share would fail for all. */
  const suspects = new Set<string>();

  /** The oldest, and as many after it as may share its statement: on the same connection, each shop once, no suspects. */
  const take = (): readonly Waiting[] => {
    const [first] = waiting as [Waiting];
    const shopIds = new Set<string>();
    let [count, characters] = [0, 0];
    for (const each of waiting) {
      const { shopId, session } = each;
      const isAlone = suspects.has(first.shopId) || suspects.has(shopId) || shopIds.has(shopId);
      characters += countCharacters(each);
      if (count > 0 && (isAlone || session !== first.session || characters > maxCharacters)) {
        break;
      }
      shopIds.add(shopId);
      count += 1;
    }
    return waiting.splice(0, count);
  };

  const appendOne = async (append: Waiting): Promise<void> => {
    const { shopId, comparison, projection, resolve, reject } = append;
    try {
      resolve(await appendCommits(append.session.db, shopId, comparison, projection));
      suspects.delete(shopId);
    } catch (error) {
      if (isOfOneShop(error)) {
        suspects.add(shopId);
      }
      reject(error);
    }
  };

  const appendMany = async (appends: readonly Waiting[], { db }: Session): Promise<void> => {
    try {
      const outcomes = await appendCommitsOfMany(db, appends);
      for (const [index, { resolve, reject }] of appends.entries()) {
        const outcome = outcomes[index];
        if (outcome === "row held") {
          reject(new RowHeld());
        } else {
          resolve(outcome === "done");
        }
      }
    } catch (error) {
      for (const append of appends) {
        if (isOfOneShop(error)) {
          await appendOne(append); // nothing was written; now it shows whose failure it is
        } else {
          append.reject(error);
        }
      }
    }
  };

  const appendWaiting = async (): Promise<void> => {
    const taken = take();
    if (waiting.length > 0) {
      void inTurn(appendWaiting);
    }
    const [first] = taken as [Waiting];
    await (taken.length === 1 ? appendOne(first) : appendMany(taken, first.session));
  };

  return {
    append: async (append) => {
      const current = session();
      if (current === undefined) {
        throw flushConnectionLost();
      }
      return new Promise((resolve, reject) => {
        waiting.push({ ...append, session: current, resolve, reject });
        if (waiting.length === 1) {
          void inTurn(appendWaiting);
        }
      });
    },
  };
}

/** Whether a failure comes from what some shop appends, not from the state of PostgreSQL, which is that of all. */
function isOfOneShop(error: unknown): boolean {
  return !isPostgresDown(error) && !isPostgresBusy(error);
}

function countCharacters({ projection }: Append): number {
  return projection.commits.reduce((sum, { call, events }) => sum + call.length + events.length, 0);
}
