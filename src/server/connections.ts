import type { Server, Socket } from "node:net";
import type { DoorLimits } from "../config.ts";

/** The sockets of a door. */
export interface Connections {
  /** Cuts all that are open. */
  destroy(): void;
}

/**
 * Limits the number of sockets of a server, and keeps them in mind. One that this side has ended is cut when its peer has not
 * ended it too for `unreadMs`, at most twice that: Node waits for the peer for ever, and a drain would with it.
 */
export function trackConnections(
  server: Server,
  { connectionCount, unreadMs }: Pick<DoorLimits, "connectionCount" | "unreadMs">,
): Connections {
  server.maxConnections = connectionCount;
  const sockets = new Set<Socket>();
  const lingering = new WeakSet<Socket>();
  const track = (socket: Socket): void => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  };
  server.on("connection", track);
  server.on("secureConnection", track);

  const timer = setInterval(() => {
    for (const socket of sockets) {
      if (!socket.writableEnded) continue;
      if (lingering.has(socket)) socket.destroy();
      lingering.add(socket);
    }
  }, unreadMs);
  timer.unref();
  server.once("close", () => clearInterval(timer));
  return {
    destroy: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}
