import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { isAlive } from "../../src/dev/process-identity.ts";
import { expectEnd, killHard } from "../dev/processes.ts";
import { auditShop } from "../helpers/audit.ts";
import { baseEnvironment } from "../helpers/base-environment.ts";
import { type Holdfast, type HoldfastOptions, startHoldfast } from "../helpers/holdfast.ts";
import { startLoad } from "../helpers/load.ts";
import { startProxy } from "../helpers/proxy.ts";
import { refusalOf } from "../helpers/refusals.ts";
import { createDatabase, createTemporaryFolder } from "../helpers/servers.ts";
import { createShop } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useStores } from "../helpers/use-holdfast.ts";
import { type Connection, connectTo, type LogLine, openClients, pidsOf, type Serving, serve } from "./serving.ts";

// Each test starts several processes, some of them twice.
vi.setConfig({ testTimeout: 90_000 });

const stores = useStores();
/** A Holdfast of one process on the same stores: it goes on when the others stop. */
let here: Holdfast;
const started: Serving[] = [];

beforeAll(async () => {
  here = await startHoldfast(stores.urls);
});
afterAll(() => here?.stop());
afterEach(async () => {
  await Promise.all(started.splice(0).map((each) => each.kill()));
});

async function start(processCount: number, options: Partial<HoldfastOptions> = {}): Promise<Serving> {
  const serving = await serve(processCount, { ...stores.urls, ...options });
  started.push(serving);
  return serving;
}

const users = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`u${index}`, 100_000]));
const lines = [{ sku: "ps5", quantity: 1 }];

function last<Value>(values: readonly Value[]): Value {
  return values.at(-1) as Value;
}

describe("several processes", () => {
  test("take the connections of both doors in turn", async () => {
    const serving = await start(2);
    const grpc: Connection[] = [];
    const http: Connection[] = [];
    for (let index = 0; index < 4; index += 1) {
      const both = connectTo(serving);
      await both.grpc.call();
      await both.http.call();
      grpc.push(both.grpc);
      http.push(both.http);
    }
    const openCounts = () => [grpc, http].map((door) => door.filter(({ isOpen }) => isOpen).length);
    await until("every connection is open", () => openCounts().join() === "4,4");
    process.kill(last(serving.pidsOf(1)), "SIGKILL");
    await until("those of the first process are cut", () => openCounts().join() === "2,2");
    const rest = [...grpc, ...http].filter(({ isOpen }) => isOpen);
    await Promise.all(rest.map((each) => each.call()));
    expect(openCounts()).toEqual([2, 2]);
  });

  test("sell what there is and no more while one of them is killed, and another takes its place", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 500 }, users });
    const serving = await start(2);
    const clients = openClients(serving, 4);
    const load = startLoad({
      clients: clients.flatMap((each) => [each.grpc, each.http]),
      shopId,
      callerCount: 24,
      requestCount: 600,
    });
    await load.reached(150);
    process.kill(last(serving.pidsOf(1)), "SIGKILL");
    await load.reached(300);
    await until("another takes its place", () => serving.pidsOf(1).length === 2, 30_000);
    process.kill(last(serving.pidsOf(2)), "SIGKILL");
    const { acknowledged, refusedCount } = await load.result;
    expect(acknowledged).toHaveLength(500);
    expect(refusedCount).toBe(100);
    await auditShop({ ...stores.urls, shopId }, acknowledged);
    await until("another takes the other's place", () => serving.pidsOf(2).length === 2, 30_000);
    expect(serving.lines.filter(({ msg }) => msg.includes("was ended by SIGKILL")).map((each) => each.process)).toEqual(
      [1, 2],
    );
    for (const each of clients) each.close();
  });

  test("leave no connection with nobody at its other end when one is killed that has not taken it", async () => {
    const serving = await start(2);
    const port = Number(new URL(serving.httpUrl).port);
    const victim = last(serving.pidsOf(1));
    process.kill(victim, "SIGSTOP");
    const asked = await Promise.all(Array.from({ length: 4 }, () => ask(port)));
    await until("all but one are answered", () => asked.filter(({ isAnswered }) => isAnswered).length === 3);
    const waiting = asked.find(({ isAnswered }) => !isAnswered);
    process.kill(victim, "SIGKILL");
    await until("the last one is cut", () => waiting?.socket.closed === true);
    for (const { socket } of asked) socket.destroy();
  });

  test("are one Holdfast to consumers and to the payment worker", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 5 }, users });
    const serving = await start(2);
    const [one, two] = openClients(serving, 2) as [Clients, Clients];
    const watch = (clients: Clients) =>
      clients.grpc.events.watchEvents({ shopId, start: { case: "consumer", value: "mail" } })[Symbol.asyncIterator]();
    const older = watch(one);
    await older.next();
    const newer = watch(two);
    await newer.next();
    const read = async (): Promise<never> => {
      for (;;) await older.next();
    };
    expect(await refusalOf(read())).toMatchObject({ reason: "CONSUMER_TAKEN" });
    const orderIds = await Promise.all(
      [one, two, one, two].map(async ({ grpc }, index) => {
        const request = { shopId, userId: `u${index}`, lines, paymentMethod: PaymentMethod.GATEWAY };
        return (await grpc.orders.placeOrder(request)).order?.orderId ?? "";
      }),
    );
    const charges = async () =>
      Promise.all(
        orderIds.map(async (orderId) => (await two.grpc.orders.getOrder({ shopId, orderId })).order?.chargeId),
      );
    await until("all are charged", async () => (await charges()).every(Boolean));
    await newer.return?.();
    await auditShop({ ...stores.urls, shopId });
    one.close();
    two.close();
  });

  test("finish what is in flight when their parent gets a SIGTERM", async () => {
    const shopId = await createShop(here.grpc, { stock: { ps5: 10 }, users });
    const postgres = await startProxy(stores.database.url);
    const serving = await start(2, { databaseUrl: postgres.url });
    const pids = [1, 2].flatMap((number) => serving.pidsOf(number));
    const clients = openClients(serving, 4);
    // Every process has the shop open, so that what is held is the flush.
    for (const { grpc } of clients) await grpc.inventory.getStock({ shopId, sku: "ps5" });
    const watched = Promise.all(
      clients.map(async ({ grpc }) => {
        for await (const _ of grpc.events.watchEvents({ shopId }));
        return "ended with OK";
      }),
    );
    const held = postgres.hold((bytes) => bytes.includes("r-held"));
    const [one] = clients as [Clients];
    const answer = one.grpc.orders.placeOrder({ shopId, requestId: "r-held", orderId: "o-held", userId: "u0", lines });
    await held;
    serving.signal("SIGTERM");
    await until("it stops", () => serving.lines.some(({ msg }) => msg === "holdfast stops"));
    postgres.release();
    expect(await answer).toMatchObject({ commit: { durable: true, replayed: false } });
    expect(await watched).toEqual(clients.map(() => "ended with OK"));
    expect(await serving.ended).toBe(0);
    expect(pids.filter(isAlive)).toEqual([]);
    await auditShop({ ...stores.urls, shopId });
    await postgres.stop();
  });
});

type Clients = ReturnType<typeof openClients>[number];

/** A connection to the HTTP door that asks for `/livez`. */
async function ask(port: number): Promise<{ readonly socket: Socket; isAnswered: boolean }> {
  const socket = connect({ port, host: "127.0.0.1" });
  const asked = { socket, isAnswered: false };
  socket.on("error", () => {});
  socket.once("data", () => {
    asked.isAnswered = true;
  });
  await once(socket, "connect");
  socket.write("GET /livez HTTP/1.1\r\nhost: holdfast\r\n\r\n");
  return asked;
}

describe("processes whose parent is killed", () => {
  let parent: ChildProcess | undefined;
  let pids: number[] = [];

  afterAll(() => {
    parent?.kill("SIGKILL");
    for (const pid of pids.filter(isAlive)) process.kill(pid, "SIGKILL");
  });

  test("end within 5 s", async () => {
    // Without what ends a server of a test together with the test: only what Holdfast does by itself is to be seen.
    parent = spawn(process.execPath, ["src/main.ts", "serve", "--processes", "3"], {
      cwd: fileURLToPath(new URL("../..", import.meta.url)),
      env: {
        ...baseEnvironment,
        REDIS_URL: stores.urls.redisUrl,
        DATABASE_URL: stores.urls.databaseUrl,
        HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
        HOLDFAST_HTTP_ADDR: "127.0.0.1:0",
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const logged: LogLine[] = [];
    createInterface(parent.stdout as NodeJS.ReadableStream).on("line", (line) => logged.push(JSON.parse(line)));
    await until("it serves", () => logged.some(({ processes }) => processes === 3), 60_000);
    const numbers = [1, 2, 3];
    await until("all say so", () => numbers.every((number) => pidsOf(logged, number).length > 0));
    pids = numbers.flatMap((number) => pidsOf(logged, number));
    expect(pids.filter(isAlive)).toHaveLength(3);
    await killHard(parent);
    for (const pid of pids) await expectEnd(pid, 5000);
  });
});

describe("a process that cannot start in the place of one that ended", () => {
  test("is tried again while another one serves", async () => {
    const postgres = await startProxy(stores.database.url);
    const serving = await start(2, { databaseUrl: postgres.url });
    postgres.refuse();
    process.kill(last(serving.pidsOf(2)), "SIGKILL");
    const cannot = () => serving.lines.filter(({ msg }) => msg.startsWith("process 2 cannot start: PostgreSQL"));
    await until("it could not twice", () => cannot().length >= 2, 20_000);
    postgres.accept();
    await until("it can", () => serving.pidsOf(2).length === 2, 20_000);
    expect(serving.pidsOf(1)).toHaveLength(1);
    await postgres.stop();
  });

  test("ends the whole when none serves any more", async () => {
    const postgres = await startProxy(stores.database.url);
    const serving = await start(2, { databaseUrl: postgres.url });
    postgres.refuse();
    for (const number of [1, 2]) process.kill(last(serving.pidsOf(number)), "SIGKILL");
    expect(await serving.ended).toBe(1);
    await postgres.stop();
  });
});

describe("--processes", () => {
  test("wins over HOLDFAST_PROCESSES, and seeds once", async () => {
    const folder = await createTemporaryFolder();
    const seedFile = join(folder, "seed.json");
    await writeFile(seedFile, JSON.stringify({ products: [{ sku: "seeded", price_minor: 5, quantity: 7 }] }));
    const serving = await start(3, { args: ["--processes", "2"], settings: { HOLDFAST_SEED_FILE: seedFile } });
    expect([1, 2, 3].map((number) => serving.pidsOf(number).length)).toEqual([1, 1, 0]);
    expect(serving.lines.filter(({ msg }) => msg === "seeded").map(({ pid }) => pid)).toEqual([serving.pid]);
    const { stock } = await serving.grpc.inventory.getStock({ sku: "seeded" });
    expect(stock?.availableCount).toBe(7n);
    await rm(folder, { recursive: true });
  });

  test("1 starts no process", async () => {
    const serving = await start(2, { args: ["--processes", "1"] });
    expect(serving.lines.filter((line) => line.process !== undefined)).toEqual([]);
    await serving.grpc.inventory.listProducts({});
    expect(new Set(serving.lines.map(({ pid }) => pid))).toEqual(new Set([serving.pid]));
  });

  test("leaves PostgreSQL as many connections for reads as one process has", async () => {
    const database = await createDatabase();
    const serving = await start(2, { databaseUrl: database.url, settings: { HOLDFAST_PG_POOL_SIZE: "10" } });
    const clients = openClients(serving, 4);
    await Promise.all(clients.flatMap(({ grpc }) => Array.from({ length: 16 }, () => grpc.inventory.listProducts({}))));
    const client = new Client({ connectionString: database.url });
    await client.connect();
    const { rows } = await client.query(
      "select count(*)::int from pg_stat_activity where datname = current_database() and application_name = 'holdfast'",
    );
    expect(rows).toEqual([{ count: 10 }]);
    await client.end();
    for (const each of clients) each.close();
    await serving.kill();
    await database.drop();
  });
});
