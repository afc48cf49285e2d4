import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { around, crashPoint, crashSteps, onCrashPoint } from "../src/crash-point.ts";

const src = fileURLToPath(new URL("../src", import.meta.url));

/** Every point that a file of src/ passes, by its name. */
function passedPoints(): string[] {
  const texts = readdirSync(src, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => readFileSync(join(src, path), "utf8"));
  return texts.flatMap((text) => [
    ...[...text.matchAll(/\bcrashPoint\("([^"]+)"\)/g)].map(([, point]) => point as string),
    ...[...text.matchAll(/\baround\(\s*"([^"]+)"/g)].flatMap(([, step]) => [`before ${step}`, `after ${step}`]),
  ]);
}

test("every step has one point before it and one after it", () => {
  const listed = crashSteps.flatMap((step) => [`before ${step}`, `after ${step}`]);
  expect(passedPoints().sort()).toEqual(listed.sort());
});

test("a step passes its points in order, the second only when its work succeeds", async () => {
  expect(await around("flush: append", async () => "no handler")).toBe("no handler");
  const passed: string[] = [];
  onCrashPoint((point) => passed.push(point));
  crashPoint("before call");
  expect(await around("flush: append", async () => passed.push("work"))).toBe(3);
  await expect(around("flush: trim", () => Promise.reject(new Error("away")))).rejects.toThrow("away");
  expect(passed).toEqual(["before call", "before flush: append", "work", "after flush: append", "before flush: trim"]);
});
