import { Redis } from "ioredis";
import type { ClusterMap } from "./cluster-map.ts";
import type { ClusterNode } from "./cluster-node.ts";

/** The subscriptions of a process to a cluster: on one node, because every node tells all others what is published. */
export interface ClusterHints {
  subscribe(channel: string, onHint: (message: string) => void): Promise<void>;
  /** Subscribes on another node when the present one does not answer: a connection to a process that hangs does not end. */
  moveFromAway(): void;
  close(): void;
}

/** How long after a lost connection another node is chosen, in milliseconds. */
const againMs = 100;

/** Subscribes on a master, and on another one when that is lost. Hints in between are lost; whoever needs them looks anyway. */
export function createClusterHints(map: ClusterMap): ClusterHints {
  const listeners = new Map<string, (message: string) => void>();
  let client: Redis | undefined;
  let node: ClusterNode | undefined;
  let timer: NodeJS.Timeout | undefined;
  let isClosed = false;

  const leave = (): void => {
    clearTimeout(timer);
    client?.removeAllListeners("end");
    client?.disconnect();
    client = undefined;
  };
  const subscribe = async (): Promise<void> => {
    leave();
    const usable = map.masters.filter((each) => each.isUsable && each !== node);
    node = usable[Math.floor(Math.random() * usable.length)] ?? map.masters[0];
    if (isClosed || node === undefined) {
      return;
    }
    const chosen = new Redis(map.urlOf(node), {
      connectionName: "holdfast-hints",
      connectTimeout: 1000,
      retryStrategy: () => null,
    });
    client = chosen;
    chosen.on("error", () => {}); // its end says the same
    chosen.on("message", (channel, message) => listeners.get(channel)?.(message));
    chosen.once("end", () => {
      timer = setTimeout(() => void subscribe(), againMs);
    });
    await chosen.subscribe(...listeners.keys()).catch(() => chosen.disconnect());
  };
  return {
    subscribe: async (channel, onHint) => {
      listeners.set(channel, onHint);
      if (client === undefined) {
        await subscribe();
      } else {
        await client.subscribe(channel).catch(() => {}); // the next node is told all channels
      }
    },
    moveFromAway: () => {
      const isLost = node === undefined || !node.isUsable || !map.masters.includes(node);
      if (isLost && listeners.size > 0) {
        void subscribe();
      }
    },
    close: () => {
      isClosed = true;
      leave();
    },
  };
}
