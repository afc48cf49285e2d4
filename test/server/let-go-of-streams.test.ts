import { once } from "node:events";
import { connect, createServer, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { ForgetfulMap } from "../../src/forgetful-map.ts";
import { letGoOfStreams } from "../../src/server/let-go-of-streams.ts";

/** Where Node keeps a session's open streams. */
function streamsOf(session: ServerHttp2Session): unknown {
  const [name] = Object.getOwnPropertySymbols(session).filter(({ description }) => description === "state");
  return (session as unknown as Record<symbol, { readonly streams: unknown }>)[name as symbol]?.streams;
}

/** A session on both sides, and a stream that nobody has answered yet. */
async function openStream() {
  const server = createServer();
  const opened = once(server, "session") as Promise<[ServerHttp2Session]>;
  server.on("session", letGoOfStreams);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  onTestFinished(() => {
    client.destroy();
    server.close();
  });
  const arrived = once(server, "stream") as Promise<[ServerHttp2Stream]>;
  const request = client.request();
  const [[session], [stream]] = await Promise.all([opened, arrived]);
  return { session, stream, request };
}

test("Node keeps the open streams of a session in a map that lets go of those that are over", async () => {
  const { session, stream, request } = await openStream();
  const streams = streamsOf(session) as ForgetfulMap<number, ServerHttp2Stream>;
  expect(streams).toBeInstanceOf(ForgetfulMap);
  expect([streams.size, streams.get(stream.id as number)]).toEqual([1, stream]);
  stream.respond({ ":status": 200 }, { endStream: true });
  request.resume();
  await once(request, "close");
  await expect.poll(() => streams.size).toBe(0);
});

test("a session that is destroyed takes its open streams along", async () => {
  const { session, stream, request } = await openStream();
  request.on("error", () => undefined);
  const closed = once(stream, "close");
  session.destroy();
  await closed;
  expect(stream.destroyed).toBe(true);
});
