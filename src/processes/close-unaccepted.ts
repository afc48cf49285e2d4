import type { Worker } from "node:cluster";

/** A connection as node:cluster hands it on. */
interface Connection {
  close(): void;
}

/** The messages of node:cluster that matter here. */
interface ClusterMessage {
  readonly act?: string;
  readonly seq?: number;
  readonly ack?: number;
}

/**
 * Closes the connections that a process was handed and had not taken when it ended, and hands it no more. node:cluster keeps
 * its own copy of them until they are taken, and then for ever; and while one is on its way, it does not notice that the
 * process has gone (Node 24.21: the event "disconnect" does not come). Such a caller has a connection that nobody answers
 * and nobody cuts, and those whose connections were just cut by the same end are the first to get one.
 */
export function closeUnaccepted(worker: Worker): void {
  const { process: child } = worker;
  const waiting = new Map<number, Connection>();
  const send = child.send.bind(child) as (...given: unknown[]) => boolean;
  child.send = ((message: ClusterMessage, connection?: Connection, ...rest: unknown[]) => {
    if (message.act === "newconn" && message.seq !== undefined && connection !== undefined) {
      waiting.set(message.seq, connection);
    }
    return send(message, connection, ...rest);
  }) as typeof child.send;
  child.on("internalMessage" as "message", (message) => {
    const { ack } = message as ClusterMessage;
    if (ack !== undefined) {
      waiting.delete(ack);
    }
  });
  const disconnect = child.disconnect.bind(child);
  // Called by node at the end of the channel, when all that the process has said was read.
  child.disconnect = () => {
    disconnect();
    for (const connection of waiting.values()) {
      connection.close();
    }
    waiting.clear();
    worker.disconnect();
  };
}
