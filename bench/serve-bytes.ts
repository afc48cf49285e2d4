import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import type { Outcome } from "./rivals/rival.ts";

/** What a method does with a request's bytes. */
export type Work = (request: Buffer) => Promise<Outcome>;

const keep = (bytes: Buffer): Buffer => bytes;

const refusals = {
  refused: { code: status.FAILED_PRECONDITION, details: "SOLD_OUT" },
  busy: { code: status.ABORTED, details: "BUSY" },
};

/**
 * A bare grpc-js server: every method does its work and answers with the same bytes every time. No checks, no limits.
 * Resolves with its port.
 */
export function serveBytes(methods: Readonly<Record<string, Work>>, response: Uint8Array): Promise<number> {
  const server = new Server({ "grpc.enable_channelz": 0 });
  const bytes = Buffer.from(response);
  for (const [path, work] of Object.entries(methods)) {
    const handle = ({ request }: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void => {
      work(request).then(
        (outcome) => (outcome === "done" ? callback(null, bytes) : callback(refusals[outcome])),
        (error: Error) => callback({ code: status.INTERNAL, details: error.message }),
      );
    };
    server.register(path, handle, keep, keep, "unary");
  }
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) {
        resolve(port);
      } else {
        reject(error);
      }
    });
  });
}
