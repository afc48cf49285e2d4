import { chooseFreePort } from "../helpers/free-port.ts";
import { type HoldfastProcess, spawnHoldfast } from "../helpers/holdfast.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import type { ServerAddress } from "./callers/open-servers.ts";

/** A place for a server process: always the same doors, and networks of its own to both stores. */
export interface ServerSlot {
  readonly address: ServerAddress;
  /** One per address of Redis. */
  readonly redisProxies: readonly TcpProxy[];
  readonly postgresProxy: TcpProxy;
  /** Starts the process and resolves when it serves. */
  start(databaseUrl: string): Promise<void>;
  /** Ends it with SIGKILL. */
  kill(): Promise<void>;
  /** SIGSTOP or SIGCONT. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void;
  /** What its processes logged at the levels warn and above since the last call, as JSON. */
  takeLog(): readonly string[];
  /** Set when a process ended that was not killed here. */
  readonly diedAlone: string | undefined;
  close(): Promise<void>;
}

/** What a slot needs. */
export interface SlotOptions {
  readonly redisUrls: readonly string[];
  /** Whether Redis is a cluster: its nodes tell their own addresses, so nothing can stand in between. */
  readonly isCluster: boolean;
  readonly postgresUrl: string;
  readonly settings: Readonly<Record<string, string>>;
}

/** pino's number of the level warn. */
const warnLevel = 40;

/** Lines of a log that are kept for a report. */
const keptLineCount = 2000;

/** Makes a slot; no process runs yet. */
export async function createSlot(options: SlotOptions): Promise<ServerSlot> {
  const redisProxies = options.isCluster ? [] : await Promise.all(options.redisUrls.map(startProxy));
  const postgresProxy = await startProxy(options.postgresUrl);
  const [grpcPort, httpPort] = [await chooseFreePort(), await chooseFreePort()];
  const redisUrl = options.isCluster ? options.redisUrls.join(",") : redisProxies.map(({ url }) => url).join(",");
  let running: HoldfastProcess | undefined;
  let diedAlone: string | undefined;
  let log: string[] = [];

  const onLine = (line: string): void => {
    if (log.length < keptLineCount && JSON.parse(line).level >= warnLevel) log.push(line);
  };
  const start = async (databaseUrl: string): Promise<void> => {
    const url = new URL(databaseUrl);
    url.port = new URL(postgresProxy.url).port;
    const settings = {
      ...options.settings,
      HOLDFAST_GRPC_ADDR: `127.0.0.1:${grpcPort}`,
      HOLDFAST_HTTP_ADDR: `127.0.0.1:${httpPort}`,
    };
    const started = await spawnHoldfast({ redisUrl, databaseUrl: url.href, settings, onLine });
    running = started;
    void started.ended.then((code) => {
      if (running === started) diedAlone = `a server ended by itself with exit code ${code}`;
    });
  };
  const kill = async (): Promise<void> => {
    const killed = running;
    running = undefined;
    await killed?.kill();
  };
  return {
    address: { grpc: `127.0.0.1:${grpcPort}`, http: `http://127.0.0.1:${httpPort}` },
    redisProxies,
    postgresProxy,
    start,
    kill,
    signal: (signal) => running?.signal(signal),
    takeLog: () => {
      const taken = log;
      log = [];
      return taken;
    },
    get diedAlone() {
      return diedAlone;
    },
    close: async () => {
      await kill();
      await Promise.all([...redisProxies, postgresProxy].map((proxy) => proxy.stop()));
    },
  };
}
