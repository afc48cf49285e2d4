/**
 * A Map for what comes and goes all the time: what was deleted is not kept alive by it.
 *
 * A Map or Set of V8 makes a new table whenever deleted entries have filled the old one. The old table still names all that was in it just
 * then, and its successor, for iterators that are under way. Once one such table has come into the old generation, no collection of the
 * young one frees its successors any more, nor theirs, nor what they name: every call that was in flight when a table was left is
 * copied twice and waits for a collection of everything. Seen with Node 24 in 2026-11: a tenth of what
 * orders made, together with what else keeps it (docs/adr/0021-garbage-of-calls.md).
 * Here tables name boxes, and a box that is deleted is emptied.
 */
export class ForgetfulMap<Key, Value> {
  readonly #boxes = new Map<Key, Box<Value>>();

  get size(): number {
    return this.#boxes.size;
  }

  get(key: Key): Value | undefined {
    return this.#boxes.get(key)?.value;
  }

  set(key: Key, value: Value): this {
    const box = this.#boxes.get(key);
    if (box === undefined) {
      this.#boxes.set(key, { value });
    } else {
      box.value = value;
    }
    return this;
  }

  delete(key: Key): boolean {
    const box = this.#boxes.get(key);
    if (box === undefined) {
      return false;
    }
    box.value = undefined;
    return this.#boxes.delete(key);
  }

  /** As of a Map: what is added meanwhile is visited as well, what is deleted before its turn is not. */
  forEach(visit: (value: Value, key: Key) => void): void {
    for (const [key, { value }] of this.#boxes) {
      visit(value as Value, key);
    }
  }
}

interface Box<Value> {
  /** Undefined once it is deleted. */
  value: Value | undefined;
}
