import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { ServiceError } from "@grpc/grpc-js";
import { expect, onTestFinished, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { createClients, errorOf, summaryOf } from "./clients.ts";
import { aborted, openDoors, openGrpcClient, stockOf } from "./open-doors.ts";

const GET_STOCK = "/holdfast.v1.InventoryService/GetStock";

function keep(bytes: Buffer): Buffer {
  return bytes;
}

test.each(["", "holdfast.v1.OrderService"])("health of '%s' follows setServing", async (service) => {
  const { grpcDoor, grpcUrl } = await openDoors({});
  const health = createClient(Health, createGrpcTransport({ baseUrl: grpcUrl }));

  expect((await health.check({ service })).status).toBe(Status.NOT_SERVING);
  grpcDoor.setServing(true);
  expect((await health.check({ service })).status).toBe(Status.SERVING);
});

test("a drain tells health watchers, ends their streams and those of reflection, and waits for nobody", async () => {
  const { grpcDoor, grpcUrl, grpcAddress } = await openDoors({});
  grpcDoor.setServing(true);
  const health = createClient(Health, createGrpcTransport({ baseUrl: grpcUrl }));
  const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
  const reflection = openGrpcClient(grpcAddress).makeBidiStreamRequest(path, keep, keep);
  const reflectionEnd = new Promise<number>((resolve) => reflection.on("status", ({ code }) => resolve(code)));
  reflection.write(Buffer.from([0x3a, 0x00]));
  await once(reflection, "data");
  const seen: Status[] = [];
  let drained: Promise<void> | undefined;
  for await (const { status } of health.watch({})) {
    seen.push(status);
    drained ??= grpcDoor.drain(10_000);
  }
  const beganMs = Date.now();
  await drained;

  expect(seen).toEqual([Status.SERVING, Status.NOT_SERVING]);
  expect(await reflectionEnd).toBe(0);
  expect(Date.now() - beganMs).toBeLessThan(5000);
});

test("a drain lets a call finish that is in flight", async () => {
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  const doors = await openDoors({
    getStock: async (req, ctx) => {
      start();
      await aborted(ctx.draining);
      return stockOf(req.sku);
    },
  });
  const call = createClients("gRPC", doors).inventory.getStock({ sku: "ps5" });
  await started;
  await doors.grpcDoor.drain(10_000);

  expect((await call).stock?.sku).toBe("ps5");
});

test("a drain cuts what is still open when its time is over", async () => {
  const { promise: started, resolve: start } = Promise.withResolvers<void>();
  const doors = await openDoors({
    getStock: async (req, ctx) => {
      start();
      await aborted(ctx.signal);
      return stockOf(req.sku);
    },
  });
  const call = createClients("gRPC", doors).inventory.getStock({ sku: "ps5" });
  const failed = expect(call).rejects.toThrow();
  await started;
  const beganMs = Date.now();
  await doors.grpcDoor.drain(200);
  await failed;

  expect(Date.now() - beganMs).toBeLessThan(2000);
});

test("a port in use is one line that says what to do", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void taken.close());
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  const opening = openDoors({}, { grpcPort: port });

  await expect(opening).rejects.toThrow(
    `The gRPC door cannot listen on 127.0.0.1:${port}: the port is in use. Stop what uses it, or set HOLDFAST_GRPC_ADDR`,
  );
});

test("two request messages, or none, are UNIMPLEMENTED", async () => {
  const { grpcAddress } = await openDoors({});
  const client = openGrpcClient(grpcAddress);
  const codes = [0, 2].map((count) => {
    const call = client.makeClientStreamRequest(GET_STOCK, keep, keep, () => undefined);
    for (let index = 0; index < count; index += 1) {
      call.write(Buffer.from([0x12, 0x01, 0x61]));
    }
    call.end();
    return new Promise<number>((resolve) => call.on("status", ({ code }) => resolve(code)));
  });

  expect(await Promise.all(codes)).toEqual([12, 12]);
});

test("an answer that cannot be written is INTERNAL, logged, and harmless for the next", async () => {
  const doors = await openDoors({
    getStock: (req) => {
      const answer = stockOf(req.sku);
      (answer.stock as { soldCount: unknown }).soldCount = req.sku === "bad" ? "many" : 3n;
      return Promise.resolve(answer);
    },
  });
  const { inventory } = createClients("gRPC", doors);

  expect(summaryOf(await errorOf(inventory.getStock({ sku: "bad" })))).toBe("Internal");
  expect(doors.logged).toHaveLength(1);
  expect((await inventory.getStock({ sku: "good" })).stock).toMatchObject({ sku: "good", soldCount: 3n });
});

test("an RPC that does not exist is UNIMPLEMENTED", async () => {
  const { grpcAddress } = await openDoors({});
  const path = "/holdfast.v1.InventoryService/GetNothing";
  const error = await new Promise<ServiceError | null>((resolve) => {
    openGrpcClient(grpcAddress).makeUnaryRequest(path, keep, keep, Buffer.alloc(0), (failure) => resolve(failure));
  });

  expect(error?.code).toBe(12);
});

test("a malformed question to reflection is INVALID_ARGUMENT", async () => {
  const { grpcAddress } = await openDoors({});
  const path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const call = openGrpcClient(grpcAddress).makeBidiStreamRequest(path, keep, keep);
  call.on("error", () => undefined).resume();
  call.write(Buffer.from([0x12, 0x05, 0x61]));

  expect(await new Promise<number>((resolve) => call.on("status", ({ code }) => resolve(code)))).toBe(3);
});

test("header values that appear more than once arrive joined", async () => {
  const seen: (string | undefined)[] = [];
  const doors = await openDoors({
    getStock: async (req, ctx) => {
      seen.push(ctx.header("x-one"), ctx.header("x-none"), ctx.principal);
      return stockOf(req.sku);
    },
  });
  const headers = new Headers([
    ["x-one", "a"],
    ["x-one", "b"],
  ]);
  await createClients("gRPC", doors).inventory.getStock({ sku: "ps5" }, { headers });
  await createClients("Connect", doors).inventory.getStock({ sku: "ps5" }, { headers });

  expect(seen).toEqual(["a, b", undefined, "", "a, b", undefined, ""]);
});
