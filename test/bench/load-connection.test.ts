import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import { afterEach, expect, it } from "vitest";
import { createRequestTemplate } from "../../bench/frames.ts";
import { type LoadConnection, openLoadConnection, type Tally } from "../../bench/load-connection.ts";

const path = "/test.Echo/Call";
const id = "call-000000000000";
const servers: Server[] = [];
const connections: LoadConnection[] = [];

afterEach(() => {
  for (const connection of connections.splice(0)) connection.close();
  for (const server of servers.splice(0)) server.forceShutdown();
});

/** A grpc-js server that notes what it gets and answers as told. */
async function serve(received: string[], isAccepted: () => boolean): Promise<number> {
  const server = new Server();
  servers.push(server);
  const keep = (bytes: Buffer): Buffer => bytes;
  const handle = ({ request }: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void => {
    received.push(request.toString());
    if (isAccepted()) {
      callback(null, Buffer.alloc(300));
    } else {
      callback({ code: status.FAILED_PRECONDITION, details: "sold out" });
    }
  };
  server.register(path, handle, keep, keep, "unary");
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    );
  });
}

async function run(port: number, inFlightCount: number, durationMs: number): Promise<Tally> {
  const template = createRequestTemplate({ path, authority: "localhost", message: Buffer.from(id), id });
  let callCount = 0;
  const connection = await openLoadConnection(port, template, () => callCount++);
  connections.push(connection);
  const tally: Tally = { successCount: 0, failureCount: 0, latenciesMs: [] };
  await connection.run(inFlightCount, performance.now() + durationMs, tally);
  return tally;
}

it("counts every call that the server got, each with an id of its own", async () => {
  const received: string[] = [];
  const tally = await run(await serve(received, () => true), 32, 300);
  expect(tally.successCount).toBeGreaterThan(32);
  expect(tally.successCount).toBe(received.length);
  expect(tally.latenciesMs).toHaveLength(received.length);
  expect(tally.failureCount).toBe(0);
  expect(new Set(received).size).toBe(received.length);
  expect(received.at(1)).toBe("call-000000000001");
});

it("tells refused calls from answered ones", async () => {
  const received: string[] = [];
  const tally = await run(await serve(received, () => received.length % 3 !== 0), 4, 100);
  expect(tally.failureCount).toBe(Math.floor(received.length / 3));
  expect(tally.successCount).toBe(received.length - tally.failureCount);
});

it("fails when the server goes away", async () => {
  const received: string[] = [];
  const port = await serve(received, () => {
    if (received.length === 20) servers[0]?.forceShutdown();
    return true;
  });
  await expect(run(port, 4, 60_000)).rejects.toThrow(/closed the connection|GOAWAY|ECONNRESET|EPIPE/);
});
