import { createServer } from "node:net";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { createMetricsDoor } from "../../src/server/metrics-door.ts";
import { createMetricsPage } from "../../src/server/metrics-page.ts";
import { startHoldfast } from "../helpers/holdfast.ts";
import { audience, createSigningKey, issuer } from "../helpers/issuer.ts";
import { parseMetrics } from "../helpers/metrics-text.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { until } from "../helpers/until.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();

async function start(settings: Readonly<Record<string, string>> = {}) {
  const holdfast = await startHoldfast({ ...stores.urls, settings });
  onTestFinished(() => holdfast.stop());
  return holdfast;
}

test("with an address of its own, the metrics are there and nowhere else", async () => {
  const { httpUrl, server } = await start({ HOLDFAST_METRICS_ADDR: "127.0.0.1:0" });
  const url = `http://127.0.0.1:${server.metricsPort}`;
  const page = await fetch(`${url}/metrics`);
  expect([page.status, page.headers.get("content-type")]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
  expect(parseMetrics(await page.text()).sum("holdfast_drift")).toBe(0);
  expect((await fetch(`${httpUrl}/metrics`)).status).toBe(404);
  for (const path of ["/", "/metrics/", "/holdfast.v1.AdminService/ListShops"]) {
    expect((await fetch(url + path)).status, path).toBe(404);
  }
  expect((await fetch(`${url}/metrics`, { method: "POST" })).status).toBe(404);
});

test("with an address of its own, they have the probes beside them", async () => {
  const { httpUrl, server } = await start({ HOLDFAST_METRICS_ADDR: "127.0.0.1:0" });
  for (const url of [`http://127.0.0.1:${server.metricsPort}`, httpUrl]) {
    for (const path of ["/livez", "/health", "/readyz", "/ready"]) {
      const response = await fetch(url + path);
      expect([response.status, await response.text()], url + path).toEqual([200, "ok\n"]);
    }
  }
});

test("a server that is not ready says so there, and why", async () => {
  const address = { host: "127.0.0.1", port: 0 };
  const door = createMetricsDoor({ address, answerMetrics: () => false, isReady: () => "Redis is away" });
  const url = `http://127.0.0.1:${await door.listen()}`;
  onTestFinished(() => door.drain(0));
  const response = await fetch(`${url}/readyz`);
  expect([response.status, await response.text()]).toEqual([503, "Redis is away\n"]);
  expect((await fetch(`${url}/livez`)).status).toBe(200);
});

/** A page whose metrics `render` makes, who looks at it, and what is logged. */
async function openPage(render: () => Promise<string>, maxAgeMs: number) {
  const logged: string[] = [];
  const logger = pino({}, { write: (line: string) => void logged.push(JSON.parse(line).msg) });
  const page = createMetricsPage({ render, maxAgeMs, logger });
  const lookers = { count: 0 };
  const door = createMetricsDoor({
    address: { host: "127.0.0.1", port: 0 },
    answerMetrics: (...args) => {
      lookers.count += 1;
      return page(...args);
    },
    isReady: () => true,
  });
  const url = `http://127.0.0.1:${await door.listen()}/metrics`;
  onTestFinished(() => door.drain(0));
  return { look: async () => (await fetch(url)).status, lookers, logged };
}

test("a page that could not be made is told to all who asked, tried once in a while, and logged once", async () => {
  let renderCount = 0;
  const { promise: areAllThere, resolve: go } = Promise.withResolvers<void>();
  const render = async () => {
    renderCount += 1;
    await areAllThere;
    throw new Error("no figures");
  };
  const { look, lookers, logged } = await openPage(render, 60_000);
  const together = [...Array(10)].map(look);
  await until("all have asked", async () => lookers.count === 10);
  go();

  expect(new Set(await Promise.all(together))).toEqual(new Set([500]));
  expect(await look()).toBe(500);
  expect(renderCount).toBe(1);
  expect(logged).toEqual(["the metrics could not be shown"]);
});

test("a page that could not be made is made anew when its time is over", async () => {
  const errors = [new Error("no figures")];
  const render = async () => {
    const [error] = errors.splice(0);
    if (error !== undefined) throw error;
    return "up 1\n";
  };
  const { look } = await openPage(render, 20);

  expect(await look()).toBe(500);
  await expect.poll(look).toBe(200);
});

test("they ask for no token where calls do", async () => {
  const { httpUrl, http } = await start({
    HOLDFAST_JWT_PUBLIC_KEY: createSigningKey().publicPem,
    HOLDFAST_JWT_ISSUER: issuer,
    HOLDFAST_JWT_AUDIENCE: audience,
  });
  expect(await refusalOf(http.admin.listShops({}))).toMatchObject({ reason: "UNAUTHENTICATED" });
  const response = await fetch(`${httpUrl}/metrics?shop=default`);
  const page = parseMetrics(await response.text());
  expect(page.sum("holdfast_refusals_total", { reason: "UNAUTHENTICATED" })).toBe(1);
});

test("who asks again and again gets the same page for a second", async () => {
  const { httpUrl, http } = await start();
  const pages = await Promise.all([...Array(20)].map(async () => (await fetch(`${httpUrl}/metrics`)).text()));
  await http.admin.listShops({});
  pages.push(await (await fetch(`${httpUrl}/metrics`)).text());
  expect(new Set(pages).size).toBeLessThanOrEqual(2);
});

test("an address that is in use ends the start with one line that names the setting", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as { port: number };
  const starting = startHoldfast({ ...stores.urls, settings: { HOLDFAST_METRICS_ADDR: `127.0.0.1:${port}` } });
  await expect(starting).rejects.toThrow(/in use.* set HOLDFAST_METRICS_ADDR/);
});
