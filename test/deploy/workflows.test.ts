import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";

const project = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(project, ".github/workflows");
const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(
  parse(readFileSync(fileURLToPath(new URL("workflow.schema.yaml", import.meta.url)), "utf8")),
);
const { scripts } = JSON.parse(readFileSync(join(project, "package.json"), "utf8"));

interface Step {
  readonly name?: string;
  readonly run?: string;
  readonly env?: Readonly<Record<string, string>>;
}
interface Job {
  readonly uses?: string;
  readonly needs?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly outputs?: Readonly<Record<string, string>>;
  readonly steps?: readonly Step[];
}

describe.each(readdirSync(folder))("%s", (file) => {
  const text = readFileSync(join(folder, file), "utf8");
  const workflow = parse(text);
  const jobs: Readonly<Record<string, Job>> = workflow.jobs;
  const steps = Object.values(jobs).flatMap((job) => (job.steps ?? []).map((step) => ({ job, step })));
  const commands = steps.flatMap(({ step }) => step.run ?? []);

  test("has the fields that are known, and steps that are valid shell", () => {
    validate(workflow);
    expect(validate.errors).toBeNull();
    for (const command of commands) execFileSync("bash", ["-n"], { input: command });
  });

  test("calls npm scripts, files, jobs, steps and workflows that exist", () => {
    const called = [...text.matchAll(/npm (?:run )?([a-z:]+)/g)]
      .map(([, name = ""]) => name)
      .filter((name) => name !== "npm");
    expect(called.filter((name) => !(name in scripts) && !text.includes(`cache: ${name}`))).toEqual([]);
    const paths = commands.flatMap((command) => command.match(/\bdeploy\/[\w./-]+/g) ?? []);
    const used = Object.values(jobs).flatMap(({ uses }) => uses ?? []);
    expect([...paths, ...used].filter((path) => !existsSync(join(project, path)))).toEqual([]);
    const needed = Object.values(jobs).flatMap(({ needs }) => needs ?? []);
    expect(needed.filter((name) => !(name in jobs))).toEqual([]);
    for (const [, name = "", output = ""] of text.matchAll(/needs\.(\w+)\.outputs\.(\w+)/g)) {
      expect(jobs[name]?.outputs).toHaveProperty(output);
    }
    for (const [, id = ""] of text.matchAll(/steps\.(\w+)\./g)) expect(text).toContain(`id: ${id}\n`);
  });

  test("puts no expression into a command, where it could be one, and gives each the variables that it uses", () => {
    expect(commands.filter((command) => command.includes("${{"))).toEqual([]);
    const given = ["GITHUB_OUTPUT", "GITHUB_ENV", "RUNNER_TEMP"];
    for (const { job, step } of steps) {
      const used = [...(step.run ?? "").matchAll(/\$\{?([A-Z][A-Z_]*)/g)].map(([, name = ""]) => name);
      const known = [...given, ...Object.keys(job.env ?? {}), ...Object.keys(step.env ?? {})];
      expect(used.filter((name) => !known.includes(name))).toEqual([]);
    }
  });
});

test("a release is tested, built, tried, pushed, migrated, deployed, rolled out and tried again, in this order", () => {
  const { jobs } = parse(readFileSync(join(folder, "release.yml"), "utf8"));
  expect(Object.entries<Job>(jobs).map(([name, { needs }]) => [needs, name])).toEqual([
    [undefined, "test"],
    ["test", "image"],
    ["image", "deploy"],
  ]);
  const names = Object.values<Job>(jobs).flatMap(({ steps = [] }) => steps.flatMap(({ name }) => name ?? []));
  expect(names).toEqual([
    ...["Build", "Try it with its stores", "Push"],
    ...["Reach the cluster", "Settings", "Migrate", "Deploy", "Rollout", "Smoke", "Back to the version before"],
  ]);
});
