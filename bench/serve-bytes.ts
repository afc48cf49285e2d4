import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";

const keep = (bytes: Buffer): Buffer => bytes;

/**
 * A bare grpc-js server with one method: does `work`, answers with the same bytes every time. No parsing, no checks.
 * Resolves with its port.
 */
export function serveBytes(path: string, response: Uint8Array, work: () => Promise<void>): Promise<number> {
  const server = new Server({ "grpc.enable_channelz": 0 });
  const bytes = Buffer.from(response);
  const handle = (_call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void => {
    work().then(
      () => callback(null, bytes),
      (error: Error) => callback({ code: status.INTERNAL, details: error.message }),
    );
  };
  server.register(path, handle, keep, keep, "unary");
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
