import { Redis } from "ioredis";
import { timeoutsOf } from "./redis-functions.ts";

/** The connections to one master of a cluster. */
export interface ClusterNode {
  /** `host:port` */
  readonly address: string;
  readonly host: string;
  /** For scripts that decide. */
  readonly commands: Redis;
  /** For large reads, so that they never delay a decision. */
  readonly reads: Redis;
  /** False: it did not answer the last time it was asked, or knows that its side of the cluster is down. */
  isUsable: boolean;
  /** Resolves when the first attempt to connect is over, however it ended. */
  readonly firstConnected: Promise<unknown>;
  /** Since when it serves no slot, in milliseconds; undefined while it serves one. */
  idleSinceMs: number | undefined;
  close(): void;
}

/** What a node needs. */
export interface ClusterNodeOptions {
  readonly address: string;
  /** An address of the cluster, of which protocol and credentials are taken. */
  readonly url: string;
  readonly commandTimeoutMs: number;
  readonly onConnect: () => void;
  readonly onLost: () => void;
  readonly onError: (error: Error) => void;
}

/** The address of another node of a cluster: same protocol, same credentials. */
export function urlOfNode(url: string, address: string): string {
  const [, host = "", port = ""] = /^(.*):(\d+)$/.exec(address) ?? [];
  const node = new URL(url);
  node.hostname = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  node.port = port;
  return node.href;
}

/** How long a connection to a node may take, in milliseconds. */
const connectMs = 1000;

/** Begins to connect to a master. Nothing is sent twice: a command that could not be sent, or whose answer is lost, fails. */
export function createClusterNode(options: ClusterNodeOptions): ClusterNode {
  const { address, url } = options;
  const connect = (connectionName: string): Redis => {
    const client = new Redis(urlOfNode(url, address), {
      connectionName,
      connectTimeout: connectMs,
      retryStrategy: (times) => Math.min(times * 20, 500),
      maxRetriesPerRequest: 0,
      enableOfflineQueue: false,
      ...timeoutsOf(options.commandTimeoutMs),
    });
    client.on("connect", options.onConnect);
    client.on("close", options.onLost);
    client.on("error", options.onError);
    return client;
  };
  const clients = [connect("holdfast-commands"), connect("holdfast-reads")] as const;
  const [commands, reads] = clients;
  const firstConnected = Promise.all(
    clients.map(
      (client) =>
        new Promise<void>((resolve) => {
          client.once("ready", () => resolve());
          client.once("close", () => resolve());
        }),
    ),
  );
  return {
    address,
    host: address.replace(/:\d+$/, ""),
    commands,
    reads,
    isUsable: true,
    firstConnected,
    idleSinceMs: undefined,
    close: () => {
      for (const client of clients) {
        client.disconnect();
      }
    },
  };
}
