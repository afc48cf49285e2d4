import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { ForgetfulMap } from "../src/forgetful-map.ts";

setFlagsFromString("--expose-gc");
const collectYoung = runInNewContext("() => gc({ type: 'minor' })", { gc: runInNewContext("gc") }) as () => void;

/** What is in the old generation, in bytes, also what nothing leads to any more. */
function oldBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === "old_space")?.space_used_size ?? 0;
}

interface AnyMap {
  set(key: number, value: object): unknown;
  delete(key: number): boolean;
}

const valueCount = 20_000;
const inFlightCount = 32;
/** Elements of each value. */
const elementCount = 100;
const valueBytes = 8 * elementCount;

/** Bytes that the old generation grew by while values came and went, collected as young ones many times. */
function growthWith(map: AnyMap): number {
  const value = (number: number) => new Array(elementCount).fill(number);
  for (let number = -inFlightCount; number < 0; number += 1) map.set(number, value(number));
  // The table has to have become old.
  for (let count = 0; count < 4; count += 1) collectYoung();
  const before = oldBytes();
  for (let number = 0; number < valueCount; number += 1) {
    map.set(number, value(number));
    map.delete(number - inFlightCount);
    if (number % 500 === 0) collectYoung();
  }
  return oldBytes() - before;
}

/** All of the heap may be collected during one of them. */
const three = (measure: () => number): number[] => [measure(), measure(), measure()];

describe("what was deleted", () => {
  test("goes with the young generation", () => {
    expect(Math.min(...three(() => growthWith(new ForgetfulMap())))).toBeLessThan((valueCount * valueBytes) / 5);
  });

  test("is kept by a Map: if this fails, V8 has mended it, and ForgetfulMap can go", () => {
    expect(Math.max(...three(() => growthWith(new Map())))).toBeGreaterThan((valueCount * valueBytes) / 3);
  });
});

describe("a ForgetfulMap", () => {
  test("has what was set last, until it is deleted", () => {
    const map = new ForgetfulMap<string, number>();
    map.set("a", 1).set("b", 2).set("a", 3);
    expect([map.get("a"), map.get("b"), map.get("c"), map.size]).toEqual([3, 2, undefined, 2]);
    expect([map.delete("a"), map.delete("a"), map.get("a"), map.size]).toEqual([true, false, undefined, 1]);
  });

  test("visits what is added meanwhile, and not what is deleted before its turn", () => {
    const map = new ForgetfulMap<string, number>().set("a", 1).set("b", 2).set("c", 3);
    const visited: unknown[] = [];
    map.forEach((value, key) => {
      visited.push([key, value]);
      map.delete("b");
      if (value < 4) map.set("d", 4);
    });
    expect(visited).toEqual([
      ["a", 1],
      ["c", 3],
      ["d", 4],
    ]);
  });
});
