import { createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { startHoldfast } from "../helpers/holdfast.ts";
import { audience, createSigningKey, issuer } from "../helpers/issuer.ts";
import { parseMetrics } from "../helpers/metrics-text.ts";
import { refusalOf } from "../helpers/refusals.ts";
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
  for (const path of ["/", "/readyz", "/metrics/", "/holdfast.v1.AdminService/ListShops"]) {
    expect((await fetch(url + path)).status, path).toBe(404);
  }
  expect((await fetch(`${url}/metrics`, { method: "POST" })).status).toBe(404);
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
