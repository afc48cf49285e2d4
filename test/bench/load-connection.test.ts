import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { afterEach, expect, it } from "vitest";
import { createRequestTemplate } from "../../bench/frames.ts";
import { emptyTally, type LoadConnection, openLoadConnection, type Tally } from "../../bench/load-connection.ts";

const path = "/test.Echo/Call";
const id = "call-000000000000";
const servers: Server[] = [];
const connections: LoadConnection[] = [];

afterEach(() => {
  for (const connection of connections.splice(0)) connection.close();
  for (const server of servers.splice(0)) server.forceShutdown();
});

/** A grpc-js server that notes what it gets and answers as told. */
async function serve(received: string[], answer: (metadata: Metadata) => status): Promise<number> {
  const server = new Server();
  servers.push(server);
  const keep = (bytes: Buffer): Buffer => bytes;
  const handle = ({ request, metadata }: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void => {
    received.push(request.toString());
    const code = answer(metadata);
    if (code === status.OK) {
      callback(null, Buffer.alloc(300));
    } else {
      callback({ code, details: "no" });
    }
  };
  server.register(path, handle, keep, keep, "unary");
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    );
  });
}

async function connect(port: number, stepCount = 1, authorization?: string): Promise<LoadConnection> {
  const call = { path, authority: "localhost", message: Buffer.from(id), ids: [id] };
  const template = createRequestTemplate({ ...call, authorization });
  let purchaseCount = 0;
  const steps = Array.from({ length: stepCount }, () => [template]);
  const connection = await openLoadConnection(port, steps, () => purchaseCount++);
  connections.push(connection);
  return connection;
}

async function run(port: number, inFlightCount: number, durationMs: number, stepCount = 1): Promise<Tally> {
  const connection = await connect(port, stepCount);
  const tally = emptyTally();
  await connection.run(inFlightCount, performance.now() + durationMs, tally);
  return tally;
}

it("counts every call that the server got, each with an id of its own", async () => {
  const received: string[] = [];
  const tally = await run(await serve(received, () => status.OK), 32, 300);
  expect(tally.doneCount).toBeGreaterThan(32);
  expect(tally.doneCount).toBe(received.length);
  expect(tally.latenciesMs).toHaveLength(received.length);
  expect(tally.refusedCount + tally.busyCount + tally.failedCount).toBe(0);
  expect(new Set(received).size).toBe(received.length);
  expect(received.at(1)).toBe("call-000000000001");
});

it.each([10, 126, 127, 254, 255, 5000])("sends a token of %i characters with every call", async (length) => {
  const tokens: unknown[] = [];
  const port = await serve([], (metadata) => {
    tokens.push(...metadata.get("authorization"));
    return status.OK;
  });
  const authorization = "x".repeat(length);
  const connection = await connect(port, 1, authorization);
  const tally = emptyTally();
  await connection.run(2, performance.now(), tally);
  expect(tally.doneCount).toBe(2);
  expect(tokens).toEqual([authorization, authorization]);
});

it("tells done, refused, busy and failed calls apart", async () => {
  const received: string[] = [];
  const codes = [status.OK, status.FAILED_PRECONDITION, status.ABORTED, status.RESOURCE_EXHAUSTED, status.INTERNAL];
  const tally = await run(await serve(received, () => codes[received.length % codes.length] as status), 4, 100);
  const count = (...remainders: number[]) =>
    received.filter((_, index) => remainders.includes((index + 1) % codes.length)).length;
  expect(tally.doneCount).toBe(count(0));
  expect(tally.refusedCount).toBe(count(1));
  expect(tally.busyCount).toBe(count(2, 3));
  expect(tally.failedCount).toBe(count(4));
  expect(tally.latenciesMs).toHaveLength(tally.doneCount + tally.refusedCount);
});

it("makes the later calls of a purchase with its number, unless an earlier one was refused", async () => {
  const received: string[] = [];
  const isRefused = () => Number.parseInt((received.at(-1) as string).slice(-12), 16) % 3 === 2;
  const tally = await run(
    await serve(received, () => (isRefused() ? status.FAILED_PRECONDITION : status.OK)),
    4,
    100,
    2,
  );
  expect(tally.doneCount).toBeGreaterThan(4);
  expect(received).toHaveLength(tally.doneCount * 2 + tally.refusedCount);
  expect(new Set(received).size).toBe(tally.doneCount + tally.refusedCount);
});

it("begins as many calls per second as it is told to", async () => {
  const received: string[] = [];
  const connection = await connect(await serve(received, () => status.OK));
  const tally = emptyTally();
  await connection.pace(200, 32, performance.now() + 500, tally);
  expect(tally.doneCount).toBe(received.length);
  expect(tally.doneCount).toBeGreaterThan(50);
  expect(tally.doneCount).toBeLessThanOrEqual(101);
});

it("fails when the server goes away", async () => {
  const received: string[] = [];
  const port = await serve(received, () => {
    if (received.length === 20) servers[0]?.forceShutdown();
    return status.OK;
  });
  await expect(run(port, 4, 60_000)).rejects.toThrow(/closed the connection|GOAWAY|ECONNRESET|EPIPE/);
});
