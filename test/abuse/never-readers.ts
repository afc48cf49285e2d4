import { create, toBinary } from "@bufbuild/protobuf";
import { flag, frame, frameType, lengthPrefixed } from "../../bench/frames.ts";
import { WatchEventsRequestSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { callHeaders, grpcFields, openPeer, openSocket } from "./peer.ts";
import { abusedShop } from "./random-request.ts";
import { type AttackOptions, type AttackResult, createPace, Tally, within } from "./target.ts";

/** Longer than the attacked server keeps what nobody reads, in milliseconds. */
const patienceMs = 60_000;
const path = "/holdfast.v1.EventService/WatchEvents";
const message = lengthPrefixed(
  toBinary(WatchEventsRequestSchema, create(WatchEventsRequestSchema, { shopId: abusedShop })),
);

/** Watches from the beginning and reads nothing, on both doors, until the server has given every one of them up. */
export async function neverRead({ target, count, perSecond, dice }: AttackOptions): Promise<AttackResult> {
  const tally = new Tally();
  const pace = createPace(perSecond);
  const waiting: Promise<void>[] = [];

  /** The connection is read, but nothing of the call is taken: pings are answered. */
  async function overHttp2(port: number, contentType: string): Promise<void> {
    const peer = await openPeer({ port, ca: target.ca, windowBytes: dice.from([0, 1, 1000, 65_535]) });
    const fields = grpcFields(path).map(
      ([name, value]) => [name, name === "content-type" ? contentType : value] as const,
    );
    peer.send(callHeaders(1, fields), frame(frameType.data, flag.endStream, 1, message));
    const isEnded = await within(
      patienceMs,
      Promise.race([peer.next(frameType.reset), peer.ended]).catch(() => undefined),
    );
    peer.socket.destroy();
    tally.add(isEnded ? "given up" : "kept");
    if (!isEnded) tally.wrong.push(`a watch of which nothing is read was still open after ${patienceMs / 1000} s`);
  }

  /** Nothing of the connection is read. What the system takes for it, some megabytes, is read as far as a server can tell. */
  async function overHttp1(port: number): Promise<void> {
    const socket = await openSocket({ port, ca: target.ca, protocol: "http/1.1" });
    socket.pause();
    socket.write(
      `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/connect+proto\r\ncontent-length: ${message.length}\r\n\r\n`,
    );
    socket.write(message);
    await within(patienceMs / 6, new Promise((resolve) => socket.once("close", resolve)));
    tally.add(socket.destroyed ? "given up" : "left by themselves");
    socket.destroy();
  }

  for (let index = 0; index < count; index += 1) {
    await pace.next();
    if (index % 2 === 0) waiting.push(overHttp2(target.grpcPort, "application/grpc"));
    else if (target.ca !== undefined && index % 4 === 1)
      waiting.push(overHttp2(target.httpPort, "application/connect+proto"));
    else waiting.push(overHttp1(target.httpPort));
  }
  await Promise.all(waiting);
  return tally;
}
