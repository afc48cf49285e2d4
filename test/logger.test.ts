import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync } from "node:fs";
import { expect, test } from "vitest";
import { baseEnvironment } from "./helpers/base-environment.ts";
import { chooseLastingPort } from "./helpers/free-port.ts";
import { until } from "./helpers/until.ts";
import { useStores } from "./helpers/use-holdfast.ts";

const stores = useStores();

test.runIf(existsSync("/dev/full"))(
  "a server whose log cannot be written, as on a full disk, serves and stops as ever",
  async () => {
    const full = openSync("/dev/full", "w");
    const httpAddress = `127.0.0.1:${await chooseLastingPort()}`;
    const child = spawn(process.execPath, ["src/main.ts", "serve"], {
      stdio: ["ignore", full, "inherit"],
      env: {
        ...baseEnvironment,
        REDIS_URL: stores.urls.redisUrl,
        DATABASE_URL: stores.urls.databaseUrl,
        HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
        HOLDFAST_HTTP_ADDR: httpAddress,
      },
    });
    closeSync(full);
    const ended = once(child, "exit");
    try {
      const createUser = async (userId: string): Promise<number> => {
        const { status } = await fetch(`http://${httpAddress}/holdfast.v1.UserService/CreateUser`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ user_id: userId }),
          signal: AbortSignal.timeout(5000),
        });
        return status;
      };
      await until("it serves", async () => (await createUser("").catch(() => 0)) === 200, 20_000);
      // A refusal is logged; by then the line that says where the doors are could not be written.
      expect([await createUser("no id"), await createUser("")]).toEqual([400, 200]);
      child.kill("SIGTERM");
      expect(await ended).toEqual([0, null]);
    } finally {
      child.kill("SIGKILL");
    }
  },
  60_000,
);
