import type { Kysely } from "kysely";
import { around } from "../crash-point.ts";
import type { Database } from "../postgres/schema.ts";
import type { Mutation, StoredRecord } from "./mutation.ts";

/** What a mutation's script gets of the row in Postgres that it may ask for: `as_of_position` and `record`. */
export class RecordArguments {
  readonly #mutation: Mutation;
  readonly #db: Kysely<Database>;
  #epoch = 0;
  #values: readonly (string | number)[];

  constructor(mutation: Mutation, db: Kysely<Database>) {
    this.#mutation = mutation;
    this.#db = db;
    this.#values = mutation.record === undefined ? [] : unread;
  }

  /** In front of the mutation's own arguments; none for a script that never asks. */
  get values(): readonly (string | number)[] {
    return this.#values;
  }

  /** Whether they may be used in an epoch: what was read in another one may be of a history that is gone. */
  isOf(epoch: number): boolean {
    return this.#mutation.record === undefined || this.#epoch === epoch;
  }

  /** Begins anew in an epoch. */
  async begin(epoch: number): Promise<void> {
    this.#values = unread;
    if (this.#mutation.preloads === true) {
      await around("mutation: read record", () => this.#read());
    }
    this.#epoch = epoch;
  }

  /** Reads what the script asked for. */
  load(): Promise<void> {
    return around("mutation: load first", () => this.#read());
  }

  async #read(): Promise<void> {
    const { rpc, record } = this.#mutation;
    if (record === undefined) {
      throw new Error(`${rpc} asked for a record that it does not have`);
    }
    this.#values = asArguments(await record(this.#db));
  }
}

const unread = [0, ""] as const;

function asArguments({ asOf, row }: StoredRecord): readonly (string | number)[] {
  return [asOf, JSON.stringify(row)];
}
