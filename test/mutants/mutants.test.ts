import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { drawMutants, type Mutant } from "./draw.ts";
import { equivalents } from "./equivalents.ts";
import { readPatches } from "./patches.ts";
import { applyPatch, projectFolder } from "./tree.ts";

const patches = readPatches();

describe.each(patches.map((patch) => [patch.name, patch] as const))("the patch %s", (_, patch) => {
  test("applies to the tree and breaks the product, nothing else", () => {
    expect(applyPatch(projectFolder, patch.path, "--check")).toBeUndefined();
    expect(patch.files.length).toBeGreaterThan(0);
    for (const file of patch.files) expect(file).toMatch(/^(src|lua)\//);
  });

  test("names a test that there is", () => {
    expect(patch.testFile).toMatch(/^test\/.+\.test\.ts$/);
    expect(existsSync(join(projectFolder, patch.testFile))).toBe(true);
  });
});

function firstOf(seed: number): Mutant[] {
  const drawn = drawMutants(seed);
  return Array.from({ length: 50 }, () => drawn.next().value);
}

test("a seed always draws the same mutants, each one change of a file that there is", () => {
  const first = firstOf(7);
  expect(firstOf(7)).toEqual(first);
  expect(firstOf(8)).not.toEqual(first);
  for (const { file, code } of first) expect(code).not.toBe(readFileSync(join(projectFolder, file), "utf8"));
});

test("what counts as equivalent is still there to be drawn, and says why", () => {
  for (const { file, diff, why } of equivalents) {
    expect(why).not.toBe("");
    const lines = readFileSync(join(projectFolder, file), "utf8")
      .split("\n")
      .map((line) => line.trim());
    const before = diff
      .split("\n")
      .filter((line) => line.startsWith("- "))
      .map((line) => line.slice(2));
    expect(lines, diff).toEqual(expect.arrayContaining(before));
  }
});
