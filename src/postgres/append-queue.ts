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
   * Appends a shop's commits when it is its turn. False: somebody else was first, or holds the shop's row; nothing was
   * written. An error is that of this shop alone: a statement that fails is repeated shop by shop.
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

/** What a query is told whose connection is gone. */
export function flushConnectionLost(): Error {
  return new Error("the flush connection was lost");
}

/** Creates the queue of one connection. */
export function createAppendQueue({ inTurn, session }: AppendQueueOptions): AppendQueue {
  const waiting: Waiting[] = [];

  /** The oldest, and as many after it as one statement takes on the same connection. */
  const take = (): readonly Waiting[] => {
    let characters = 0;
    const isTooMuch = (each: Waiting, index: number): boolean => {
      for (const { call, events } of each.projection.commits) {
        characters += call.length + events.length;
      }
      return index > 0 && (characters > maxCharacters || each.session !== waiting[0]?.session);
    };
    const end = waiting.findIndex(isTooMuch);
    return waiting.splice(0, end === -1 ? waiting.length : end);
  };

  const appendOne = async (append: Waiting): Promise<void> => {
    const { shopId, comparison, projection, resolve, reject } = append;
    await appendCommits(append.session.db, shopId, comparison, projection).then(resolve, reject);
  };

  const appendMany = async (appends: readonly Waiting[], { db }: Session): Promise<void> => {
    try {
      const doneIds = await appendCommitsOfMany(db, appends);
      for (const { shopId, resolve } of appends) {
        resolve(doneIds.has(shopId));
      }
    } catch (error) {
      for (const append of appends) {
        if (isPostgresDown(error) || isPostgresBusy(error)) {
          append.reject(error);
        } else {
          await appendOne(append); // nothing was written; now it shows whose failure it is
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
