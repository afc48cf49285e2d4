import { Socket } from "node:net";

/** The sockets of this process to Postgres, so that those that an outage left dead do not keep anybody waiting afterwards. */
export interface Sockets {
  /** A socket for a new connection. */
  open(): Socket;
  /** Bytes received on all sockets so far: what grows is alive. */
  readonly receivedCount: number;
  /** An outage begins: notes what each socket has received. */
  outageBegins(): void;
  /** The outage is over: ends the sockets on which nothing came since it began. What was asked on them was not answered. */
  outageEnds(): void;
}

/** How long after an outage answers may come that it held up, in milliseconds. */
const graceMs = 300;

/** Creates the list of the sockets of one process. */
export function createSockets(): Sockets {
  const sockets = new Set<Socket>();
  let closedCount = 0;
  let received = new Map<Socket, number>();
  return {
    open: () => {
      const socket = new Socket();
      sockets.add(socket);
      socket.once("close", () => {
        sockets.delete(socket);
        closedCount += socket.bytesRead;
      });
      return socket;
    },
    get receivedCount() {
      return [...sockets].reduce((sum, { bytesRead }) => sum + bytesRead, closedCount);
    },
    outageBegins: () => {
      received = new Map([...sockets].map((socket) => [socket, socket.bytesRead]));
    },
    outageEnds: () => {
      const silent = new Map([...sockets].map((socket) => [socket, received.get(socket) ?? 0]));
      setTimeout(() => {
        for (const [socket, byteCount] of silent) {
          if (socket.bytesRead === byteCount) {
            socket.destroy(new Error("the connection did not answer during an outage"));
          }
        }
      }, graceMs).unref();
    },
  };
}
