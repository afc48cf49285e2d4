/** Numbers from a seed: the same seed gives the same numbers (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A number from 0 to 1, without 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** A whole number from 0 to `count` - 1. */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  /** A number between two, in milliseconds or whatever they are. */
  between(least: number, most: number): number {
    return least + this.next() * (most - least);
  }

  /** True with a chance of so many percent. */
  chance(percent: number): boolean {
    return this.next() * 100 < percent;
  }

  from<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }
}
