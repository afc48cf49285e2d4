import { execFile, spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { createShop } from "./helpers/shop.ts";
import { useHoldfast } from "./helpers/use-holdfast.ts";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const hasProtoc = spawnSync("protoc", ["--version"]).status === 0;
const hasPython = spawnSync("python3", ["--version"]).status === 0;

describe("a caller without our stubs", () => {
  const holdfast = useHoldfast();
  const curl = async (...args: string[]): Promise<string> => {
    const buf = join(root, "node_modules", ".bin", "buf");
    return (await run(buf, ["curl", "--protocol", "grpc", "--http2-prior-knowledge", ...args])).stdout;
  };

  it("lists the services through reflection", async () => {
    const services = (await curl("--list-services", `http://${holdfast.grpcAddress}`)).trim().split("\n");
    for (const name of ["Inventory", "Order", "User", "Subscription", "Event", "Admin"]) {
      expect(services).toContain(`holdfast.v1.${name}Service`);
    }
  });

  it("places an order through reflection", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 3 }, users: { u1: 500 } });
    const order = { shopId, userId: "u1", lines: [{ sku: "ps5", quantity: 2 }], requestId: "r1" };
    const url = `http://${holdfast.grpcAddress}/holdfast.v1.OrderService/PlaceOrder`;
    const answer = JSON.parse(await curl("--data", JSON.stringify(order), url));
    expect(answer).toMatchObject({
      order: { userId: "u1", amountMinor: "200", state: "ORDER_STATE_PAID" },
      stocks: [{ sku: "ps5", availableCount: "1", soldCount: "2" }],
      balanceMinor: "300",
      commit: { requestId: "r1", durable: true },
    });
  });

  it("places an order with curl and JSON", async () => {
    const shopId = await createShop(holdfast.grpc, { stock: { ps5: 3 } });
    const body = { shopId, lines: [{ sku: "ps5", quantity: 1 }], paymentMethod: "PAYMENT_METHOD_NONE" };
    const response = await fetch(`${holdfast.httpUrl}/holdfast.v1.OrderService/PlaceOrder`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": '"k1"' },
      body: JSON.stringify(body),
    });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      order: { userId: "", amountMinor: "100" },
      commit: { requestId: "k1" },
    });
  });
});

describe("stubs of another language", () => {
  it.skipIf(!hasProtoc || !hasPython)("are compiled by protoc, and Python takes them", async () => {
    const folder = await mkdtemp(join(tmpdir(), "holdfast-stubs-"));
    try {
      const files = readdirSync(join(root, "proto/holdfast/v1")).map((name) => `holdfast/v1/${name}`);
      const thirdParty = ["buf/validate/validate.proto", "google/rpc/error_details.proto", "google/rpc/status.proto"];
      await run("protoc", ["-I", join(root, "proto"), `--python_out=${folder}`, ...files, ...thirdParty]);
      await run("python3", ["-m", "compileall", "-q", folder]);
      const made = readdirSync(join(folder, "holdfast/v1")).filter((name) => name.endsWith("_pb2.py"));
      expect(made.length).toBe(files.length);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
