import { create, toBinary } from "@bufbuild/protobuf";
import { Server, ServerCredentials, type ServerWritableStream } from "@grpc/grpc-js";
import { afterEach, expect, it } from "vitest";
import { type Crowd, openCrowd } from "../../bench/growth/watch-crowd.ts";
import {
  EventService,
  type WatchEventsResponse,
  WatchEventsResponseSchema,
} from "../../gen/holdfast/v1/event_service_pb.js";

const servers: Server[] = [];
const crowds: Crowd[] = [];

afterEach(() => {
  for (const crowd of crowds.splice(0)) crowd.close();
  for (const server of servers.splice(0)) server.forceShutdown();
});

type Message = WatchEventsResponse["message"];

const agoMs = 5000;

/** A commit as large as its events; decided some seconds ago. */
function commit(position: number, eventCount = 1) {
  const timeMs = Date.now() - agoMs;
  const commitTime = { seconds: BigInt(Math.floor(timeMs / 1000)), nanos: (timeMs % 1000) * 1_000_000 };
  const events = Array.from({ length: eventCount }, (_, index) => ({
    position: BigInt(position),
    index,
    subjects: ["sku:console"],
  }));
  return { position: BigInt(position), epoch: 3n, commitId: "commit", requestId: "request", commitTime, events };
}

const single = (position: number): Message => ({ case: "batch", value: commit(position) }) as unknown as Message;
const several = (positions: readonly number[], eventCount: number): Message =>
  ({ case: "batches", value: { batches: positions.map((each) => commit(each, eventCount)) } }) as unknown as Message;
const caughtUp = { case: "caughtUp", value: { position: 0n, commitId: "" } } as unknown as Message;

/** Lets some watchers watch a server that says `messages` to each; resolves when it has said them all. */
async function watch(watcherCount: number, messages: readonly Message[]): Promise<Crowd> {
  const server = new Server();
  servers.push(server);
  const path = `/${EventService.typeName}/${EventService.method.watchEvents.name}`;
  const keep = (bytes: Buffer): Buffer => bytes;
  const handle = (call: ServerWritableStream<Buffer, Buffer>): void => {
    for (const message of [...messages, caughtUp]) {
      call.write(Buffer.from(toBinary(WatchEventsResponseSchema, create(WatchEventsResponseSchema, { message }))));
    }
  };
  server.register(path, handle, keep, keep, "serverStream");
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, at) =>
      error ? reject(error) : resolve(at),
    );
  });
  const crowd = await openCrowd({ port, shopId: "shop", watcherCount, maxCommitsPerMessage: 1, afterPosition: 6 });
  crowds.push(crowd);
  return crowd;
}

it("counts every commit of every watcher, in messages of any size", async () => {
  const crowd = await watch(3, [single(7), several([8, 9], 1000), several([10], 1), single(11)]);
  const { count, leastPosition, lagP50Ms, lagP99Ms } = crowd.count();
  expect({ count, leastPosition }).toEqual({ count: 15, leastPosition: 11 });
  expect(lagP50Ms).toBeGreaterThanOrEqual(agoMs);
  expect(lagP99Ms).toBeGreaterThanOrEqual(lagP50Ms);
  expect(crowd.count().count).toBe(0);
  await crowd.reach(11, 60_000);
});

it.each([
  ["missing", [single(7), single(9)], "position 9 after 7"],
  ["there twice", [several([7, 8, 8], 1)], "position 8 after 8"],
  ["not where the watch began", [single(8)], "position 8 after 6"],
] as const)("fails when a commit is %s", async (_, messages, told) => {
  await expect(watch(2, messages).then((crowd) => crowd.count())).rejects.toThrow(told);
});

it("fails when the server goes away", async () => {
  const crowd = await watch(2, []);
  servers[0]?.forceShutdown();
  await crowd.reach(7, 60_000);
  expect(() => crowd.count()).toThrow(/broke|closed|ECONNRESET/);
});
