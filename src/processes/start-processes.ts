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
  const { processCount, drainDelayMs } = options.config;
  await prepareStores(options, processCount * countConnections(shareOf(options.config, 1)));
  const isWorthATry = (error: Error): boolean => {
    if (slots.some(({ isServing }) => isServing)) {
      return true;
    }
    onGone(new StartError(`no process serves any more, and none can be started: ${error.message}`));
    return false;
  };
  const gather = (): Promise<string> => gatherMetrics(slots);
  const slots = Array.from({ length: processCount }, (_, index) => {
    const number = index + 1;
    const config = shareOf(options.config, number);
    return createSlot({
      number,
      fork: () => forkProcess({ number, config, redisUrl, databaseUrl, logLevel: logger.level }, gather),
      isWorthATry,
      drainDelayMs,
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
 * with one process, give or take a few; each gets four in any case. What is done once is left out, and the first one alone
 * verifies: what one has found is over when the same one finds it mended.
 */
function shareOf(config: Config, number: number): Config {
  const share = Math.ceil(config.postgresPoolCount / config.processCount);
  const postgresPoolCount = Math.max(share, Math.min(leastPoolCount, config.postgresPoolCount));
  const verifyMs = number === 1 ? config.verifyMs : 0;
  return { ...config, postgresPoolCount, verifyMs, seedFile: undefined, migratesOnStart: false };
}
