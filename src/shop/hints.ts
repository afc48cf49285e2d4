import { hintChannel } from "./keys.ts";
import type { ScriptRunner } from "./redis.ts";

/**
 * How the processes of one Redis database tell each other how far PostgreSQL is. A hint may be lost; whoever needs one looks
 * anyway, only later.
 */
export interface Hints {
  /** Tells that a shop is durable up to a position, within some milliseconds: what is told meanwhile goes out with it. */
  tell(shopId: string, position: number): void;
}

/**
 * How long hints are gathered, in milliseconds: little for a watcher of another process, and two hundred messages a second at
 * most, also where each of a thousand shops flushes for itself.
 */
const gatherMs = 5;

/** Creates the hints of one process, and calls `onHint` with those of all, its own among them. */
export async function createHints(
  redis: ScriptRunner,
  onHint: (shopId: string, position: number) => void,
): Promise<Hints> {
  const channel = hintChannel(redis.database);
  const untold = new Map<string, number>();
  const send = (): void => {
    const message = [...untold].map(([shopId, position]) => `${shopId} ${position}`).join("\n");
    untold.clear();
    redis.publish(channel, message).catch(() => {}); // Redis is away, which others see as well
  };
  await redis.subscribe(channel, (message) => {
    for (const line of message.split("\n")) {
      const [shopId = "", text] = line.split(" ");
      const position = Number(text);
      if (Number.isSafeInteger(position)) {
        onHint(shopId, position);
      }
    }
  });
  return {
    tell: (shopId, position) => {
      if (untold.size === 0) {
        setTimeout(send, gatherMs);
      }
      untold.set(shopId, position);
    },
  };
}
