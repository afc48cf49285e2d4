import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { deployFolder, isInstalled, readAlerts, runInDeploy } from "./observers.ts";

const alerts = readAlerts();

describe("every alert", () => {
  test("has a severity that leads somewhere, and says what it is about", () => {
    expect(alerts.length).toBeGreaterThan(20);
    for (const { alert, labels, annotations } of alerts) {
      expect(["page", "ticket"], alert).toContain(labels.severity);
      expect(annotations, alert).toEqual({ summary: expect.any(String), description: expect.any(String) });
    }
  });

  test("is described for whoever gets it", () => {
    const described =
      readFileSync(`${deployFolder}../docs/monitoring.md`, "utf8").match(/^\| Holdfast\w+ +\| \w+/gm) ?? [];
    const rows = described.map((row) =>
      row
        .split("|")
        .map((cell) => cell.trim())
        .slice(1),
    );
    expect(rows).toEqual(alerts.map(({ alert, labels }) => [alert, labels.severity]));
  });

  test("is replayed both silent and firing", () => {
    const { tests } = parse(readFileSync(`${deployFolder}prometheus/holdfast.rules.test.yml`, "utf8"));
    const replayed = tests.map(({ name, promql_expr_test: times }: { name: string; promql_expr_test: Replay[] }) => [
      name,
      ...times.map(({ expr, exp_samples: [sample] }) => (expr.includes(`alertname="${name}"`) ? sample?.value : expr)),
    ]);
    expect(replayed).toEqual(alerts.map(({ alert }) => [alert, 0, 1]));
  });
});

interface Replay {
  readonly expr: string;
  readonly exp_samples: readonly { readonly value: number }[];
}

describe.runIf(isInstalled("promtool"))("promtool", () => {
  test("takes the rules and the configuration", () => {
    expect(runInDeploy("promtool", "check", "config", "prometheus/prometheus.yml")).toMatchObject({ code: 0 });
  });

  test("replays the rules", () => {
    expect(runInDeploy("promtool", "test", "rules", "prometheus/holdfast.rules.test.yml")).toMatchObject({ code: 0 });
  });
});

describe.runIf(isInstalled("amtool"))("amtool", () => {
  test("takes the routes", () => {
    expect(runInDeploy("amtool", "check-config", "alertmanager.yml")).toMatchObject({ code: 0 });
  });

  test.each([
    ["page", "pagerduty,slack"],
    ["ticket", "slack"],
  ])("leads a %s to %s", (severity, receivers) => {
    const { code, said } = runInDeploy(
      "amtool",
      ...[
        "config",
        "routes",
        "test",
        "--config.file=alertmanager.yml",
        `severity=${severity}`,
        "alertname=HoldfastDrift",
      ],
    );
    expect([code, said.trim().split("\n").at(0)]).toEqual([0, receivers]);
  });
});
