import type { Script, Scripts } from "../shop/scripts.ts";
import type { Shop } from "../shop/shop.ts";
import type { Caller } from "../shop/waiters.ts";
import { pageCount, type Run } from "./run.ts";

/** What the live state is read with. */
export interface LookOptions {
  readonly shop: Pick<Shop, "read">;
  readonly scripts: Scripts;
  readonly caller: Caller;
}

/** The shop got another epoch in the middle: what was compared says nothing of what is there now. */
export class EpochChanged extends Error {}

/** What a look showed, at the position to which the model was folded. */
export interface Look<Payload> {
  readonly payload: Payload;
  readonly position: number;
}

/** Some values, with the memory's horizon. */
export interface Values {
  readonly values: readonly (string | undefined)[];
  readonly position: number;
  /** What is remembered is younger than this, in ms; 0 = nothing was let go yet. */
  readonly forgottenMs: number;
  /** Orders changed after it have the position of their change in the recent memory. */
  readonly forgottenPosition: number;
}

/**
 * Looks at Redis, all in one epoch: each is one read-only script that reads a page of one key together with the position it
 * is true of. What it shows is in Postgres by the time it is answered, and the model is folded forward to exactly there.
 */
export class Looks {
  readonly #run: Run;
  readonly #options: LookOptions;
  #epoch: number | undefined;

  constructor(run: Run, options: LookOptions) {
    this.#run = run;
    this.#options = options;
  }

  async #look<Payload>(script: Script, args: readonly (string | number)[]): Promise<Look<Payload>> {
    const { shop, caller } = this.#options;
    await this.#run.rest();
    const seen = await shop.read(script, args, {}, caller, true);
    this.#epoch ??= seen.epoch;
    if (seen.epoch !== this.#epoch || seen.position < this.#run.model.position) {
      throw new EpochChanged();
    }
    await this.#run.foldTo(seen.position);
    return { payload: seen.payload as Payload, position: seen.position };
  }

  /** Pages through a key: pairs of field and value, or member and score. */
  async *scan(name: string): AsyncGenerator<Look<[string, string][]>> {
    for await (const { payload, position } of this.#scan(name)) {
      const pairs: [string, string][] = [];
      for (let index = 0; index + 1 < payload.length; index += 2) {
        pairs.push([payload[index] as string, payload[index + 1] as string]);
      }
      yield { payload: pairs, position };
    }
  }

  /** Pages through the log: pairs of id and flat fields. */
  async *entries(): AsyncGenerator<Look<[string, string[]][]>> {
    for await (const { payload, position } of this.#scan("log")) {
      const pairs: [string, string[]][] = [];
      for (let index = 0; index + 1 < payload.length; index += 2) {
        pairs.push([payload[index] as string, payload[index + 1] as string[]]);
      }
      yield { payload: pairs, position };
    }
  }

  async *#scan(name: string): AsyncGenerator<Look<(string | string[])[]>> {
    let cursor = "0";
    do {
      const { payload, position } = await this.#look<[string, (string | string[])[]]>(this.#options.scripts.scanState, [
        name,
        cursor,
        pageCount / 2,
      ]);
      cursor = payload[0];
      yield { payload: payload[1], position };
    } while (cursor !== "0");
  }

  /** Reads some fields or members. */
  async read(name: string, fields: readonly string[]): Promise<Values> {
    const { payload, position } = await this.#look<[string, string, (string | null)[]]>(
      this.#options.scripts.readState,
      [name, ...fields],
    );
    const [forgotten, forgottenPosition, values] = payload;
    return {
      values: values.map((value) => value ?? undefined),
      position,
      forgottenMs: Number(forgotten),
      forgottenPosition: Number(forgottenPosition),
    };
  }
}

/** A list in parts of so many items. */
export function* chunksOf<Item>(items: readonly Item[], count: number): Generator<Item[]> {
  for (let from = 0; from < items.length; from += count) {
    yield items.slice(from, from + count);
  }
}
