import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const project = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string): string => readFileSync(join(project, path), "utf8");
const text = read("docs/operations.md");

/** The names that match in a text, each once. */
function namesIn(source: string, pattern: RegExp): string[] {
  return [...new Set(source.match(pattern))];
}

test("every alert says what to do", () => {
  const alerts = [...read("deploy/prometheus/holdfast.rules.yml").matchAll(/alert: (\w+)/g)].map(
    ([, name = ""]) => name,
  );
  const answered = text.slice(text.indexOf("## Alerts"), text.indexOf("## Symptoms"));
  expect(alerts.length).toBeGreaterThan(20);
  expect(alerts.filter((name) => !new RegExp(`\\b${name}\\b`).test(answered))).toEqual([]);
  expect(namesIn(text, /\bHoldfast[A-Z]\w+/g).filter((name) => !alerts.includes(name))).toEqual([]);
});

test("every setting, metric and file that is named exists", () => {
  const config = read("src/config.ts");
  expect(namesIn(text, /\b(?:HOLDFAST|STRIPE)_[A-Z_]*[A-Z]\b/g).filter((name) => !config.includes(`"${name}`))).toEqual(
    [],
  );
  const monitoring = read("docs/monitoring.md");
  const metrics = namesIn(text, /\bholdfast_[a-z_]+/g).filter((name) => !/^holdfast_(owner|server)$/.test(name));
  expect(metrics.filter((name) => !monitoring.includes(name))).toEqual([]);
  const links = [...text.matchAll(/\]\(([^)#]+)/g)].map(([, path = ""]) => join(dirname("docs/operations.md"), path));
  expect(links.filter((path) => !existsSync(join(project, path)))).toEqual([]);
});

test("the workflows ask for the variables and secrets that are named, and no others", () => {
  const asked = namesIn(read(".github/workflows/release.yml"), /\b(?:vars|secrets)\.\w+/g).map(
    (name) => name.split(".")[1],
  );
  const [, table = ""] = /### With the workflows\n([\s\S]*?)\n\n`SMOKE_TOKEN`/.exec(text) ?? [];
  expect(
    namesIn(table, /\b[A-Z]+_?[A-Z]*\b/g)
      .filter((name) => name !== "TLS")
      .sort(),
  ).toEqual([...asked].sort());
});
