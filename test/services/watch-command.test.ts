import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, openSync } from "node:fs";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { AdjustReason } from "../../gen/holdfast/v1/resources_pb.js";
import { spawnHoldfast } from "../helpers/holdfast.ts";
import { createShop } from "../helpers/shop.ts";
import { useStores } from "../helpers/use-holdfast.ts";

const stores = useStores();

test("the command `watch` goes on where it was when the server ends its watch", async () => {
  const settings = { HOLDFAST_MAX_CONNECTION_AGE_SECONDS: "1" };
  const holdfast = await spawnHoldfast({ ...stores.urls, settings });
  const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
  const { shop } = await holdfast.grpc.admin.getShop({ shopId });
  const target = ["--target", holdfast.grpcAddress, "--shop", shopId, "--after", String(shop?.headPosition)];
  const child = spawn(process.execPath, ["src/main.ts", "watch", ...target], { stdio: ["ignore", "pipe", "inherit"] });
  const printed: string[] = [];
  createInterface(child.stdout).on("line", (line) => printed.push(JSON.parse(line).position));
  const made: string[] = [];
  try {
    // One commit after the other, each when the one before was printed, over several ends.
    for (const untilMs = Date.now() + 4000; Date.now() < untilMs; ) {
      const adjust = { shopId, sku: "a", deltaCount: 1n, reason: AdjustReason.RESTOCK };
      const { commit } = await holdfast.http.inventory.adjustStock(adjust);
      made.push(String(commit?.position));
      await expect.poll(() => printed, { timeout: 10_000 }).toEqual(made);
    }
    expect(child.exitCode).toBeNull();
  } finally {
    child.kill();
    await holdfast.kill();
  }
}, 30_000);

/** How `holdfast watch` of a shop with commits ends when its standard output is this, and what it says of it. */
async function watchInto(output: "a pipe that nobody reads" | number) {
  const holdfast = await spawnHoldfast(stores.urls);
  try {
    const shopId = await createShop(holdfast.grpc, { stock: { a: 1 } });
    const command = ["src/main.ts", "watch", "--target", holdfast.grpcAddress, "--shop", shopId];
    const stdout = typeof output === "number" ? output : "pipe";
    const child = spawn(process.execPath, command, { stdio: ["ignore", stdout, "pipe"] });
    child.stdout?.destroy();
    const [stderr, [code]] = await Promise.all([text(child.stderr as NodeJS.ReadableStream), once(child, "exit")]);
    return { code, stderr };
  } finally {
    await holdfast.kill();
  }
}

test("the command `watch` ends in silence when nobody reads it any more", async () => {
  expect(await watchInto("a pipe that nobody reads")).toEqual({ code: 1, stderr: "" });
}, 30_000);

test.runIf(existsSync("/dev/full"))(
  "the command `watch` says in one line that it cannot print",
  async () => {
    const stderr = expect.stringMatching(/^holdfast: the output cannot be written: ENOSPC[^\n]+\n$/);
    expect(await watchInto(openSync("/dev/full", "w"))).toEqual({ code: 1, stderr });
  },
  30_000,
);
