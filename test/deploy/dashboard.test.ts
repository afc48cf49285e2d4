import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { chooseFreePort } from "../helpers/free-port.ts";
import { parseMetrics } from "../helpers/metrics-text.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createShop } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";
import { deployFolder, isInstalled, metricsIn, readAlerts, readQueries } from "./observers.ts";

const holdfast = useHoldfast({ settings: { HOLDFAST_VERIFY_SECONDS: "1" } });
const queries = readQueries();

test("every metric that the dashboard and the alerts read is there", async () => {
  const page = parseMetrics(await holdfast.server.metrics());
  const names = new Set(page.samples.map(({ name }) => name));
  names.add("holdfast_process_answers"); // only where several processes serve
  const read = [...queries, ...readAlerts()].flatMap(({ expr }) => metricsIn(expr));
  expect(read.length).toBeGreaterThan(60);
  expect(read.filter((name) => !names.has(name))).toEqual([]);
});

describe.runIf(isInstalled("prometheus"))("a Prometheus that scraped a loaded server", () => {
  let folder: string;
  let prometheus: ChildProcess;
  let url: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "holdfast-prometheus-"));
    const config = {
      global: { scrape_interval: "1s", evaluation_interval: "1s" },
      rule_files: [`${deployFolder}prometheus/holdfast.rules.yml`],
      scrape_configs: [{ job_name: "holdfast", static_configs: [{ targets: [new URL(holdfast.httpUrl).host] }] }],
    };
    await writeFile(join(folder, "prometheus.yml"), JSON.stringify(config));
    const port = await chooseFreePort();
    url = `http://127.0.0.1:${port}`;
    const paths = [
      "--config.file=prometheus.yml",
      "--storage.tsdb.path=data",
      `--web.listen-address=127.0.0.1:${port}`,
    ];
    prometheus = spawn("prometheus", paths, { cwd: folder, stdio: "ignore" });
    await until("Prometheus scrapes", async () =>
      (await ask("up").catch(() => [])).some(({ value }) => value[1] === "1"),
    );
    await load();
    const soldCount = async () => (await ask("sum(holdfast_order_items_total)"))[0]?.value[1];
    await until("it has seen the load", async () => (await soldCount()) === "18");
  });
  afterAll(async () => {
    if (prometheus?.exitCode === null) {
      const ended = once(prometheus, "exit");
      prometheus.kill("SIGTERM");
      await ended;
    }
    await rm(folder, { recursive: true, force: true });
  });

  /** A bit of everything that the dashboard shows. */
  async function load(): Promise<void> {
    const { orders, inventory } = holdfast.grpc;
    const shopId = await createShop(holdfast.grpc, { stock: { a: 60 }, users: { ann: 10_000 } });
    const lines = [{ sku: "a", quantity: 1 }];
    await inventory.holdStock({ shopId, lines, holdDuration: { seconds: 1n } });
    for (let round = 0; round < 6; round += 1) {
      const methods = [PaymentMethod.NONE, PaymentMethod.WALLET, PaymentMethod.GATEWAY];
      await Promise.all(
        methods.map((paymentMethod) => orders.placeOrder({ shopId, lines, userId: "ann", paymentMethod })),
      );
      await refusalOf(orders.placeOrder({ shopId, lines: [{ sku: "none", quantity: 1 }] }));
      const scrapes = await ask("count_over_time(up[1m])");
      const seen = Number(scrapes[0]?.value[1]);
      await until("it was scraped", async () => Number((await ask("count_over_time(up[1m])"))[0]?.value[1]) > seen);
    }
  }

  async function ask(query: string): Promise<{ value: [number, string] }[]> {
    const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query })}`);
    const { status, error, data } = (await response.json()) as {
      status: string;
      error?: string;
      data?: { result: { value: [number, string] }[] };
    };
    if (status !== "success") throw new Error(`${query}: ${error}`);
    return data?.result ?? [];
  }

  test("has an answer to every query of the dashboard", async () => {
    const empty: string[] = [];
    for (const { panel, expr } of queries) {
      const result = await ask(expr.replaceAll("$__rate_interval", "20s").replaceAll("$__range", "5m"));
      if (result.length === 0) empty.push(`${panel}: ${expr}`);
    }
    expect(empty).toEqual([]);
  });

  test("shows how long an order took, to the 99.9th percentile", async () => {
    const query = "histogram_quantile(0.999, sum by (le) (rate(holdfast_order_seconds_bucket[1m])))";
    expect(Number((await ask(query))[0]?.value[1])).toBeGreaterThan(0);
  });

  test("evaluates every alert", async () => {
    const healthOf = async (): Promise<Record<string, string>> => {
      const response = await fetch(`${url}/api/v1/rules`);
      const { data } = (await response.json()) as { data: { groups: { rules: { name: string; health: string }[] }[] } };
      return Object.fromEntries(data.groups.flatMap(({ rules }) => rules.map(({ name, health }) => [name, health])));
    };
    await until("all were evaluated", async () => !Object.values(await healthOf()).includes("unknown"));
    expect(await healthOf()).toEqual(Object.fromEntries(readAlerts().map(({ alert }) => [alert, "ok"])));
  });
});
