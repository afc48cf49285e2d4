import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Ports } from "./messages.ts";
import type { ServingProcess } from "./serving-process.ts";

/** What a slot needs. */
export interface SlotOptions {
  /** Counted from 1. */
  readonly number: number;
  readonly fork: () => ServingProcess;
  /** Called when a process cannot start in the place of one that ended; true: try again later. */
  readonly isWorthATry: (error: Error) => boolean;
  /** How long a process that stops waits before it drains, in milliseconds. */
  readonly drainDelayMs: number;
  readonly logger: Logger;
}

/** A place in which one process serves; when it ends, another one takes its place. */
export interface Slot {
  /** Whether its process has its doors open. */
  readonly isServing: boolean;
  /** The metrics of its process; undefined when it has none that says them. */
  metrics(): Promise<string | undefined>;
  /** Starts its first process; rejects when that cannot start, and starts no other then. */
  start(): Promise<Ports>;
  /** Lets its process finish what is in flight, and ends it when that takes too long. */
  stop(): Promise<void>;
}

/** The wait before a process takes the place of one that ended, in milliseconds: doubled each time, up to the most. */
const leastRestMs = 100;
const mostRestMs = 10_000;
/** A process that served for so long has ended for a reason of its own: the next waits as little as the first. */
const healthyMs = 60_000;
/** More than a drain takes after its delay: a process that has not stopped after that does not stop by itself. */
const stopMs = 25_000;

/** Makes a slot, without a process yet. */
export function createSlot({ number, fork, isWorthATry, drainDelayMs, logger: parent }: SlotOptions): Slot {
  const logger = parent.child({ process: number });
  let current: ServingProcess | undefined;
  let isServing = false;
  let isStopping = false;
  let restMs = leastRestMs;
  let again: NodeJS.Timeout | undefined;

  const start = async (): Promise<Ports> => {
    const started = fork();
    current = started;
    const ports = await started.ready;
    isServing = true;
    const startedAt = performance.now();
    void started.ended.then((how) => {
      isServing = false;
      if (performance.now() - startedAt > healthyMs) {
        restMs = leastRestMs;
      }
      replaceLater(`process ${number} ${how}`, started.pid);
    });
    return ports;
  };

  const replaceLater = (why: string, pid: number | undefined): void => {
    if (isStopping) {
      return;
    }
    logger.warn({ endedPid: pid, restMs }, `${why}; another takes its place`);
    again = setTimeout(replace, restMs);
    restMs = Math.min(2 * restMs, mostRestMs);
  };

  const replace = async (): Promise<void> => {
    try {
      await start();
    } catch (error) {
      if (!isStopping && isWorthATry(error as Error)) {
        replaceLater(`process ${number} cannot start: ${(error as Error).message}`, current?.pid);
      }
    }
  };

  return {
    get isServing() {
      return isServing;
    },
    metrics: async () => (isServing ? await current?.metrics().catch(() => undefined) : undefined),
    start,
    stop: async () => {
      isStopping = true;
      clearTimeout(again);
      if (current === undefined) {
        return;
      }
      const { ended, askToStop, kill } = current;
      askToStop();
      const isSlow = await Promise.race([ended.then(() => false), sleep(drainDelayMs + stopMs, true, { ref: false })]);
      if (isSlow) {
        logger.warn(`process ${number} does not stop and is ended`);
        kill();
        await ended;
      }
    },
  };
}
