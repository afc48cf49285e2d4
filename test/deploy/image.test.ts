import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDoors } from "../helpers/holdfast.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";
import { type Image, imagePath, runDockerfile } from "./run-dockerfile.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const stores = useStores();
let folder: string;
let image: Image;
const running = new Set<ChildProcess>();
const killAll = (): void => running.forEach((child) => void child.kill("SIGKILL"));

beforeAll(async () => {
  process.once("exit", killAll);
  folder = await createTemporaryFolder();
  // For whoever the image runs as.
  await chmod(folder, 0o755);
  image = await runDockerfile(project, folder);
}, 120_000);
afterAll(async () => {
  killAll();
  process.off("exit", killAll);
  await rm(folder, { recursive: true, force: true });
});

/** Runs a command of the image as its user, with nothing in the environment but what the image and the caller put there. */
function run([program = "", ...args]: readonly string[], env: Readonly<Record<string, string>>): ChildProcess {
  const [uid, gid] = image.user.split(":").map(Number);
  const child = spawn(join(image.root, "usr/local/bin", program), args, {
    cwd: image.workdir,
    env: { ...image.env, PATH: imagePath(image.root), ...env },
    ...(process.getuid?.() === 0 ? { uid, gid } : {}),
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  return child;
}

test("is made with the Node that everything is tested with, and with no package for developers", async () => {
  const { devDependencies } = JSON.parse(await readFile(join(project, "package.json"), "utf8"));
  expect(image.bases).toEqual([`node:${devDependencies.node}-bookworm-slim`, "debian:bookworm-slim"]);
  const packages = await readdir(join(image.workdir, "node_modules"));
  expect(packages).toContain("ioredis");
  expect(packages.filter((name) => name in devDependencies)).toEqual([]);
  expect((await readdir(image.workdir)).sort()).toEqual([
    "deploy",
    "gen",
    "lua",
    "node_modules",
    "package.json",
    "src",
  ]);
});

test("sells as somebody who is not root, is healthy, and stops in order", async () => {
  expect(image.user).not.toMatch(/^(0|root)\b/);
  const server = run(image.command, {
    REDIS_URL: stores.urls.redisUrl,
    DATABASE_URL: stores.urls.databaseUrl,
    HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
    HOLDFAST_HTTP_ADDR: "127.0.0.1:0",
  });
  const said: string[] = [];
  server.stderr?.on("data", (data) => said.push(String(data)));
  const { grpc, http } = await doorsOf(server).catch((error) => {
    throw new Error(`${error.message}: ${said.join("")}`);
  });
  const doors = openDoors(grpc, http);
  const shopId = await createShop(doors.grpc, { stock: { ps5: 2 }, users: { ann: 500 } });
  const lines = [{ sku: "ps5", quantity: 2 }];
  const { commit, balanceMinor } = await doors.http.orders.placeOrder({ shopId, userId: "ann", lines });
  expect([commit?.durable, balanceMinor]).toEqual([true, 300n]);
  doors.close();

  const HOLDFAST_HTTP_ADDR = `0.0.0.0:${new URL(http).port}`;
  expect(await once(run(image.healthcheck, { HOLDFAST_HTTP_ADDR }), "exit")).toEqual([0, null]);
  server.kill("SIGTERM");
  expect(await once(server, "exit")).toEqual([0, null]);
  expect(await once(run(image.healthcheck, { HOLDFAST_HTTP_ADDR }), "exit")).toEqual([1, null]);
});

test("without a PostgreSQL it says in a line what to give it", async () => {
  const server = run(image.command, { REDIS_URL: stores.urls.redisUrl, HOLDFAST_INSECURE: "1" });
  const [said, [code]] = await Promise.all([text(server.stderr as NodeJS.ReadableStream), once(server, "exit")]);
  expect([code, said]).toEqual([1, expect.stringMatching(/^holdfast: .*set DATABASE_URL.*\n$/)]);
});

/** Where the doors are, from the line that is logged when they are open. */
async function doorsOf(server: ChildProcess): Promise<{ readonly grpc: string; readonly http: string }> {
  for await (const line of createInterface(server.stdout as NodeJS.ReadableStream)) {
    if (line.includes('"grpc":')) return JSON.parse(line);
  }
  throw new Error("the server ended");
}
