import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type MetricsPage, parseMetrics } from "../helpers/metrics-text.ts";
import { until } from "../helpers/until.ts";
import { useStores } from "../helpers/use-holdfast.ts";
import { openClients, type Serving, serve } from "./serving.ts";

vi.setConfig({ testTimeout: 90_000 });

const stores = useStores();
let serving: Serving;
beforeAll(async () => {
  serving = await serve(2, { ...stores.urls, settings: { HOLDFAST_VERIFY_SECONDS: "1" } });
});
afterAll(() => serving?.kill());

const read = async (): Promise<MetricsPage> => parseMetrics(await (await fetch(`${serving.httpUrl}/metrics`)).text());
const labels = { grpc_method: "ListProducts" };
const handled = (page: MetricsPage, process?: string): number =>
  page.sum("grpc_server_handled_total", process === undefined ? labels : { ...labels, process });

test("whichever process is asked shows the metrics of all, each with its number, and counts go on when one is replaced", async () => {
  const clients = openClients(serving, 4);
  for (const { grpc } of clients) {
    for (let count = 0; count < 5; count += 1) await grpc.inventory.listProducts({});
  }
  await until("all calls are shown", async () => handled(await read()) === 20);
  const page = await read();
  // Connections are handed out in turn, and each is one that stays.
  expect([handled(page, "1"), handled(page, "2")]).toEqual([10, 10]);
  expect(page.sum("holdfast_process_answers")).toBe(2);
  expect(page.sum("process_cpu_seconds_total", { process: "1" })).toBeGreaterThan(0);

  process.kill(serving.pidsOf(1).at(-1) as number, "SIGKILL");
  await until("another process has its place", () => serving.pidsOf(1).length === 2);
  await until("the page has both", async () => (await read()).sum("holdfast_process_answers") === 2);
  // A page is shown for a second: one from before the end may be shown once more.
  await until("the new process has counted nothing", async () => handled(await read(), "1") === 0);
  expect(handled(await read(), "2")).toBe(10);
  for (const client of clients) client.close();
});

test("the first process alone verifies shops", async () => {
  const verifiedCount = (page: MetricsPage, process: string) => page.sum("holdfast_verify_seconds_count", { process });
  let page = await read();
  const before = verifiedCount(page, "1");
  // A round each second, of the one shop there is: whoever verified too would have begun within its first one.
  const hasBeenRound = async () => {
    page = await read();
    return verifiedCount(page, "1") >= before + 3;
  };
  // It rests for 20 times as long as a verification takes.
  await until("it has been round three times", hasBeenRound, 60_000);
  expect(verifiedCount(page, "2")).toBe(0);
});

test("a process that hangs is left out, and the page says which", async () => {
  const pid = serving.pidsOf(2).at(-1) as number;
  process.kill(pid, "SIGSTOP");
  try {
    const answers = async (process: string) => {
      // Connections are handed out in turn: of two, one does not get to the process that hangs.
      const end = new AbortController();
      const signal = AbortSignal.any([end.signal, AbortSignal.timeout(4000)]);
      const page = async (): Promise<string> =>
        (await fetch(`${serving.httpUrl}/metrics`, { signal, headers: { connection: "close" } })).text();
      const text = await Promise.any([page(), page()]).catch(() => undefined);
      end.abort();
      return text === undefined ? -1 : parseMetrics(text).sum("holdfast_process_answers", { process });
    };
    await until("it is missing", async () => (await answers("2")) === 0, 30_000);
    await until("the other is there", async () => (await answers("1")) === 1, 30_000);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await until("it is back", async () => (await read()).sum("holdfast_process_answers") === 2, 30_000);
});

test("processes that cannot say their metrics log it, are left out and serve on", async () => {
  const preloads = [fileURLToPath(new URL("withhold-metrics.ts", import.meta.url))];
  const withholding = await serve(2, { ...stores.urls, preloads });
  try {
    const page = parseMetrics(await (await fetch(`${withholding.httpUrl}/metrics`)).text());
    expect(page.samples.map(({ name, value }) => [name, value])).toEqual([
      ["holdfast_process_answers", 0],
      ["holdfast_process_answers", 0],
    ]);
    for (const number of [1, 2]) {
      const said = `process ${number} could not say its metrics`;
      await until("it is logged", () => withholding.lines.some(({ msg }) => msg === said));
      expect(withholding.pidsOf(number)).toHaveLength(1);
    }
  } finally {
    await withholding.kill();
  }
});
