/** Chooses by a seed: the same seed chooses the same. */
export interface Dice {
  /** A whole number between two, both inclusive. */
  between(least: number, most: number): number;
  from<Item>(items: readonly Item[]): Item;
  /** A key, by the weights. */
  weighted<Key extends string>(weights: Partial<Readonly<Record<Key, number>>>): Key;
}

/** Creates dice. The numbers are those of a 32-bit xorshift generator. */
export function createDice(seed: number): Dice {
  // Seeds that follow each other must not begin alike.
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 0x1_0000_0000;
  };
  const between = (least: number, most: number): number => least + Math.floor(next() * (most - least + 1));
  return {
    between,
    from: (items) => items[between(0, items.length - 1)] as (typeof items)[number],
    weighted: (weights) => {
      const entries = Object.entries(weights) as [keyof typeof weights, number][];
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
      for (const [key, weight] of entries) {
        left -= weight;
        if (left < 0) return key;
      }
      return (entries.at(-1) as [keyof typeof weights, number])[0];
    },
  };
}
