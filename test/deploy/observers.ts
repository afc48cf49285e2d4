import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

/** The folder with the files for whoever runs Holdfast. */
export const deployFolder = fileURLToPath(new URL("../../deploy/", import.meta.url));

/** Whether a program of Prometheus is installed; the set-up of the tests does so where it can. */
export function isInstalled(program: "prometheus" | "promtool" | "amtool"): boolean {
  return spawnSync(program, ["--version"]).status === 0;
}

/** Runs a program in the folder; gives its exit code and what it said. */
export function runInDeploy(
  program: string,
  ...args: string[]
): { readonly code: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: deployFolder, encoding: "utf8" });
  return { code: status, said: `${stdout}${stderr}` };
}

/** An alert of the rules. */
export interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** All alerts of `prometheus/holdfast.rules.yml`. */
export function readAlerts(): readonly Alert[] {
  const { groups } = parse(readFileSync(`${deployFolder}prometheus/holdfast.rules.yml`, "utf8"));
  return groups.flatMap(({ rules }: { rules: Alert[] }) => rules);
}

/** A query of the dashboard. */
export interface Query {
  readonly panel: string;
  readonly expr: string;
}

/** All queries of `grafana/holdfast.json`. */
export function readQueries(): readonly Query[] {
  const { panels } = JSON.parse(readFileSync(`${deployFolder}grafana/holdfast.json`, "utf8"));
  return panels.flatMap(({ title, targets = [] }: { title: string; targets?: { expr: string }[] }) =>
    targets.map(({ expr }) => ({ panel: title, expr })),
  );
}

/** The metrics that an expression reads; `ALERTS` is Prometheus' own. */
export function metricsIn(expr: string): string[] {
  return expr.match(/\b(?:holdfast|grpc_server|nodejs|process)_[a-z0-9_]+/g) ?? [];
}
