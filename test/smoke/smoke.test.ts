import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { baseEnvironment } from "../helpers/base-environment.ts";
import { chooseFreePort } from "../helpers/free-port.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();

/** Runs `npm run test:smoke` without npm. */
function runSmoke(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const options = { cwd: fileURLToPath(new URL("../..", import.meta.url)), env: { ...baseEnvironment, ...env } };
  return new Promise<{ readonly code: unknown; readonly said: string }>((resolve) => {
    execFile(process.execPath, ["test/smoke/main.ts", ...args], options, (error, _stdout, said) =>
      resolve({ code: error?.code ?? 0, said }),
    );
  });
}

/** What the shop has after a run. */
async function findState() {
  const shopId = "smoke";
  const [{ stock }, { user }, { orders }, { holds }, { shops }] = await Promise.all([
    holdfast.grpc.inventory.getStock({ shopId, sku: "smoke" }),
    holdfast.grpc.users.getUser({ shopId, userId: "smoke" }),
    holdfast.grpc.orders.listOrders({ shopId }),
    holdfast.grpc.inventory.listHolds({ shopId, userId: "smoke" }),
    holdfast.grpc.admin.listShops({}),
  ]);
  const position = (await holdfast.grpc.admin.getShopStats({ shopId })).asOf?.position ?? 0n;
  return {
    stock: [stock?.availableCount, stock?.heldCount, stock?.soldCount],
    balance: user?.balanceMinor,
    counts: [orders.length, holds.length, shops.length],
    position,
  };
}

describe("the smoke test", () => {
  test("passes where a server sells through both doors, and leaves three commits behind when it is run again", async () => {
    const args = ["--target", holdfast.grpcAddress, "--http", new URL(holdfast.httpUrl).host];
    expect(await runSmoke(args)).toMatchObject({ code: 0, said: expect.stringContaining(": well") });
    const first = await findState();
    expect(first).toMatchObject({ stock: [1n, 0n, 0n], balance: 100n });
    expect(await runSmoke(args)).toMatchObject({ code: 0 });
    const second = await findState();
    expect(second).toMatchObject({ stock: [1n, 0n, 0n], balance: 100n });
    expect(second.position - first.position).toBe(3n);
  });

  test("passes without the HTTP door", async () => {
    const { code, said } = await runSmoke(["--target", holdfast.grpcAddress]);
    expect([code, said.includes("/readyz")]).toEqual([0, false]);
  });

  test("fails in a shop where something is wrong, and says at which step", async () => {
    const shopId = "wrong";
    await holdfast.grpc.admin.createShop({ shopId, currencyCode: "USD" });
    await holdfast.grpc.inventory.putProduct({
      shopId,
      sku: "smoke",
      title: "Smoke test",
      priceMinor: 100n,
      withdrawn: true,
    });
    const { code, said } = await runSmoke(["--target", holdfast.grpcAddress, "--shop", shopId]);
    expect(code).toBe(1);
    expect(said).toMatch(/FAIL {2}one unit is held: .*not on sale/);
  });

  test.concurrent("fails where nobody listens", async () => {
    const { code, said } = await runSmoke(["--target", `127.0.0.1:${await chooseFreePort()}`]);
    expect([code, said]).toEqual([1, expect.stringContaining("FAIL  gRPC health says SERVING")]);
  });

  test.concurrent("fails where somebody listens who says nothing", async () => {
    const silent = createServer(() => {}).listen(0, "127.0.0.1");
    onTestFinished(() => void silent.close());
    await once(silent, "listening");
    const { code, said } = await runSmoke(["--target", `127.0.0.1:${(silent.address() as AddressInfo).port}`]);
    expect([code, said]).toEqual([1, expect.stringContaining("FAIL  gRPC health says SERVING")]);
  });

  test.concurrent.each([
    [["--target", "nonsense"], {}, "--target is"],
    [[], {}, "--target is missing"],
    [["--target", "a:1", "--retries", "2"], {}, "usage:"],
    [["--target", "shop.example:1"], { HOLDFAST_TOKEN: "t" }, "unencrypted: add --tls"],
  ])("refuses %j", async (args, env, why) => {
    const { code, said } = await runSmoke(args, env as Record<string, string>);
    expect([code, said]).toEqual([1, expect.stringContaining(why)]);
  });
});
