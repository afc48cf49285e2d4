import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const source = fileURLToPath(new URL("../../src/", import.meta.url));
const tables = [
  ...["shops", "commits", "products", "stock", "holds", "orders", "users", "ledger_entries"],
  ...["tiers", "subscriptions", "tier_changes", "refunds"],
];

/**
 * Who may write a table besides the flush statement: the birth of a shop, the epoch that OPEN gives it, the commits without events that
 * an accepted loss leaves, a migration's columns.
 */
const allowed: Readonly<Record<string, readonly string[]>> = {
  "postgres/shops.ts": ["insert shops", "update shops"],
  "postgres/lost-commits.ts": ["insert commits", "update shops"],
  "postgres/migrations/0002-whole-contract.ts": ["update shops", "update stock", "insert tiers"],
};

/** Every write to a table in a text, in SQL and in Kysely's words: `insert shops`. */
function findWrites(text: string): string[] {
  const names = `(${tables.join("|")})\\b`;
  const patterns: readonly (readonly [string, RegExp])[] = [
    ["insert", new RegExp(`insert\\s+into\\s+"?${names}`, "gi")],
    ["update", new RegExp(`update\\s+(?:only\\s+)?"?${names}[\\s\\S]{0,20}?\\bset\\b`, "gi")],
    ["delete", new RegExp(`delete\\s+from\\s+(?:only\\s+)?"?${names}`, "gi")],
    ["truncate", new RegExp(`truncate\\s+(?:table\\s+)?"?${names}`, "gi")],
    ["merge", new RegExp(`merge\\s+into\\s+"?${names}`, "gi")],
    ["copy", new RegExp(`copy\\s+"?${names}[^;]*\\bfrom\\b`, "gi")],
    ["insert", new RegExp(`\\.(?:insertInto|replaceInto)\\(\\s*["'\`]${names}`, "g")],
    ["update", new RegExp(`\\.updateTable\\(\\s*["'\`]${names}`, "g")],
    ["delete", new RegExp(`\\.deleteFrom\\(\\s*["'\`]${names}`, "g")],
    ["merge", new RegExp(`\\.mergeInto\\(\\s*["'\`]${names}`, "g")],
  ];
  return patterns.flatMap(([verb, pattern]) => [...text.matchAll(pattern)].map((match) => `${verb} ${match[1]}`));
}

test.each([
  ["insert into orders (a) values (1)", ["insert orders"]],
  ["UPDATE stock s\n  SET x = 1", ["update stock"]],
  ["delete from only commits where true", ["delete commits"]],
  ['trx.updateTable("users").set({})', ["update users"]],
  ["db.deleteFrom('holds')", ["delete holds"]],
  ["select * from orders; -- update of stock levels", []],
])("finds the writes in: %s", (text, expected) => {
  expect(findWrites(text)).toEqual(expected);
});

test("nothing but the flush statement writes the tables it owns", () => {
  const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
  expect(files).toContain("postgres/flush-statement.ts");
  const writers = files
    .filter((file) => file !== "postgres/flush-statement.ts")
    .flatMap((file) => findWrites(readFileSync(`${source}${file}`, "utf8")).map((write) => ({ file, write })))
    .filter(({ file, write }) => !allowed[file]?.includes(write));
  expect(writers).toEqual([]);
});

test("outside of the flush statement a shop's row only gets an epoch", () => {
  const text = readFileSync(`${source}postgres/shops.ts`, "utf8");
  expect(text.match(/\.updateTable\("shops"\)\.set\([^)]*\)/g)).toEqual(['.updateTable("shops").set({ epoch })']);
});
