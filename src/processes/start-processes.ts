import type { Config } from "../config.ts";
import { countConnections, prepareStores, type Server, type ServerOptions } from "../serve.ts";
import { StartError } from "../start-error.ts";
import { gatherMetrics } from "./gather-metrics.ts";
import type { Ports } from "./messages.ts";
import { forkProcess } from "./serving-process.ts";
import { createSlot } from "./slot.ts";

/** What several processes need. */
export interface ProcessesOptions extends Pick<ServerOptions, "config" | "redisUrl" | "databaseUrl" | "logger"> {
  readonly seedFile?: ServerOptions["seedFile"];
  /** Called once, when no process serves any more and none could be started in their place. */
  readonly onGone: (error: Error) => void;
}

/**
 * Serves with `config.processCount` processes behind the same two doors. This process prepares the stores once, accepts
 * connections and hands them on in turn; it decides nothing and sees no call.
 */
export async function startProcesses(options: ProcessesOptions): Promise<Pick<Server, "stop"> & Ports> {
  const { redisUrl, databaseUrl, logger, onGone } = options;
  const config = shareOf(options.config);
  await prepareStores(options, options.config.processCount * countConnections(config));
  const isWorthATry = (error: Error): boolean => {
    if (slots.some(({ isServing }) => isServing)) {
      return true;
    }
    onGone(new StartError(`no process serves any more, and none can be started: ${error.message}`));
    return false;
  };
  const gather = (): Promise<string> => gatherMetrics(slots);
  const slots = Array.from({ length: config.processCount }, (_, index) => {
    const number = index + 1;
    return createSlot({
      number,
      fork: () => forkProcess({ number, config, redisUrl, databaseUrl, logLevel: logger.level }, gather),
      isWorthATry,
      drainDelayMs: config.drainDelayMs,
      logger,
    });
  });
  const stop = async (): Promise<void> => {
    await Promise.all(slots.map((slot) => slot.stop()));
  };
  try {
    const [ports] = await Promise.all(slots.map((slot) => slot.start()));
    return { ...(ports as Ports), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** An opening of a shop holds a connection for as long as it takes: others have to get one meanwhile. */
const leastPoolCount = 4;

/**
 * The settings of one process of several: the pool for reads is divided, so that PostgreSQL has as many connections of it as
 * with one process, give or take a few; each gets four in any case. What is done once is left out.
 */
function shareOf(config: Config): Config {
  const share = Math.ceil(config.postgresPoolCount / config.processCount);
  const postgresPoolCount = Math.max(share, Math.min(leastPoolCount, config.postgresPoolCount));
  // So that all of them together verify as often as one.
  const verifyMs = config.verifyMs * config.processCount;
  return { ...config, postgresPoolCount, verifyMs, seedFile: undefined, migratesOnStart: false };
}
