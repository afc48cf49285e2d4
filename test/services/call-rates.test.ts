import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { audience, issuer, signWithSecret } from "../helpers/issuer.ts";
import { readRefusal } from "../helpers/refusals.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const secret = "a secret of more than thirty-two bytes";
const principalRate = 10;
/** More than a principal may do in two of its seconds: both may lie within one of the shop's. */
const shopRate = 30;
const holdfast = useHoldfast({
  settings: {
    HOLDFAST_JWT_SECRET: secret,
    HOLDFAST_JWT_ISSUER: issuer,
    HOLDFAST_JWT_AUDIENCE: audience,
    HOLDFAST_PRINCIPAL_CALLS_PER_SECOND: String(principalRate),
    HOLDFAST_SHOP_CALLS_PER_SECOND: String(shopRate),
  },
});

let sessions: Http2SessionManager;
const doors = {} as Record<"gRPC" | "HTTP", Client<typeof InventoryService>>;

beforeAll(async () => {
  const baseUrl = `http://${holdfast.grpcAddress}`;
  sessions = new Http2SessionManager(baseUrl);
  const grpc = createGrpcTransport({ baseUrl, sessionManager: sessions });
  const http = createConnectTransport({ baseUrl: holdfast.httpUrl, httpVersion: "1.1", useBinaryFormat: false });
  doors.gRPC = createClient(InventoryService, grpc);
  doors.HTTP = createClient(InventoryService, http);
  const admin = createClient(AdminService, grpc);
  for (const shopId of ["gRPC", "HTTP"]) {
    await admin.createShop({ shopId, currencyCode: "EUR" }, { headers: await tokenOf("keeper") });
  }
});

afterAll(() => sessions.abort());

async function tokenOf(principal: string) {
  return { authorization: `Bearer ${await signWithSecret(secret, { sub: principal })}` };
}

/** So many calls of each principal at the same time; the errors of those that were refused, by principal. */
async function callAtOnce(
  door: "gRPC" | "HTTP",
  principals: readonly string[],
  callCount: number,
  shopOf: (index: number) => string = () => door,
) {
  const perPrincipal = principals.map(async (principal) => {
    const headers = await tokenOf(principal);
    const call = (index: number) => doors[door].getStock({ shopId: shopOf(index), sku: "nothing" }, { headers });
    const calls = Array.from({ length: callCount }, (_, index) => call(index).catch(ConnectError.from));
    const errors = await Promise.all(calls);
    return errors.filter((error) => error instanceof ConnectError && error.code !== Code.NotFound) as ConnectError[];
  });
  return Promise.all(perPrincipal);
}

describe.each(["gRPC", "HTTP"] as const)("by %s", (door) => {
  test("a caller below its rate may make several calls at the same time", async () => {
    const [errors] = await callAtOnce(door, [`modest-${door}`], 4);
    expect(errors).toEqual([]);
  });

  test("a caller above its rate is refused, and told when to come back", async () => {
    // Each in a shop of its own, whether there is one or not: no shop's rate has a part in it.
    const [errors = []] = await callAtOnce(door, [`eager-${door}`], 100, (index) => `${door}-${index}`);
    expect(errors.length).toBeGreaterThan(0);
    for (const error of errors) {
      const { code, reason, metadata, retryMs } = readRefusal(error);
      expect([code, reason]).toEqual([Code.ResourceExhausted, "RATE_LIMITED"]);
      expect(metadata).toEqual({ limit: "principal", calls_per_second: String(principalRate) });
      expect(retryMs).toBeGreaterThan(0);
      // Two windows at most, or while a lease is under way a turn for each of them.
      expect(retryMs).toBeLessThanOrEqual(Math.max(2000, 50 + (100 * 1000) / principalRate));
      expect(error.metadata.get("grpc-retry-pushback-ms")).toBe(String(retryMs));
    }
  });

  test("a shop above its rate is refused, whoever calls", async () => {
    const principals = Array.from({ length: 20 }, (_, index) => `${door}-${index}`);
    const errors = (await callAtOnce(door, principals, principalRate / 2)).flat();
    expect(errors.map((error) => readRefusal(error).metadata.limit)).toContain("shop");
  });

  test("who comes back when it was told to is served", async () => {
    const headers = await tokenOf(`patient-${door}`);
    await expect
      .poll(() => doors[door].getStock({ shopId: door, sku: "nothing" }, { headers }).catch((error) => error.code), {
        timeout: 10_000,
        interval: 200,
      })
      .toBe(Code.NotFound);
  });
});

test("what is refused for what it says does not count", async () => {
  const headers = await tokenOf("clumsy");
  for (let count = 0; count < 5 * principalRate; count += 1) {
    const error = await doors.gRPC.getStock({ shopId: "empty", sku: "" }, { headers }).catch(ConnectError.from);
    expect((error as ConnectError).code).toBe(Code.InvalidArgument);
  }
});
