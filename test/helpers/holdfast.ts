import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { pino } from "pino";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { loadConfig } from "../../src/config.ts";
import { type Server, type ServerOptions, startServer } from "../../src/serve.ts";
import { baseEnvironment } from "./base-environment.ts";

/** A client for every service, all on one door. */
export interface Clients {
  readonly inventory: Client<typeof InventoryService>;
  readonly orders: Client<typeof OrderService>;
  readonly users: Client<typeof UserService>;
  readonly subscriptions: Client<typeof SubscriptionService>;
  readonly events: Client<typeof EventService>;
  readonly admin: Client<typeof AdminService>;
}

/** Callers of one Holdfast: gRPC on one door, Connect with JSON on the other. */
export interface Doors {
  readonly grpc: Clients;
  readonly http: Clients;
  /** `127.0.0.1:<port>` */
  readonly grpcAddress: string;
  /** `http://127.0.0.1:<port>` */
  readonly httpUrl: string;
}

/** Where a Holdfast finds its stores, and its settings as environment variables. */
export interface HoldfastOptions {
  readonly redisUrl: string;
  readonly databaseUrl: string;
  readonly settings?: Readonly<Record<string, string>>;
  /** What follows `serve` on the command line; only for a Holdfast in a process of its own. */
  readonly args?: readonly string[];
  /** Told of every line that a process of its own logs, as JSON. */
  readonly onLine?: (line: string) => void;
  /** Modules that a process loads before the program; only for a Holdfast in a process of its own. */
  readonly preloads?: readonly string[];
}

/** A Holdfast in this process. */
export interface Holdfast extends Doors {
  readonly server: Server;
  /** The log lines of level error and above since the start, as JSON. */
  readonly faults: readonly string[];
  /** The log lines of level info and above since the start, as JSON. */
  readonly logged: readonly string[];
  stop(): Promise<void>;
}

/** pino's number of the level error. */
const errorLevel = 50;

/** Starts a Holdfast in this process; `clock` replaces the shops' clock, in milliseconds since the epoch. */
export async function startHoldfast(options: HoldfastOptions & Pick<ServerOptions, "clock">): Promise<Holdfast> {
  const faults: string[] = [];
  const logged: string[] = [];
  const write = (line: string): void => {
    logged.push(line);
    if (JSON.parse(line).level >= errorLevel) faults.push(line);
  };
  const logger = pino({ level: "info" }, { write });
  const { redisUrl, databaseUrl, clock } = options;
  const config = loadConfig(environment(options));
  const server = await startServer({
    config,
    redisUrl,
    databaseUrl,
    logger,
    ...(clock === undefined ? {} : { clock }),
  });
  const doors = openDoors(`127.0.0.1:${server.grpcPort}`, `http://127.0.0.1:${server.httpPort}`);
  return {
    ...doors,
    server,
    faults,
    logged,
    stop: async () => {
      doors.close();
      await server.stop();
    },
  };
}

/** A Holdfast in a process of its own. */
export interface HoldfastProcess extends Doors {
  readonly pid: number;
  /** SIGKILL, SIGSTOP, SIGCONT, ... */
  signal(signal: NodeJS.Signals): void;
  /** Writes a line to its standard input, for what was loaded before it. */
  tell(line: string): void;
  /** Resolves with the exit code when the process has ended; undefined when a signal ended it. */
  readonly ended: Promise<number | undefined>;
  /** Ends the process, at once, and waits for its end. */
  kill(): Promise<void>;
}

const projectFolder = fileURLToPath(new URL("../..", import.meta.url));
const guard = fileURLToPath(new URL("end-with-parent.ts", import.meta.url));

/** Starts `holdfast serve` in a process of its own, which also ends when this process does. */
export async function spawnHoldfast(options: HoldfastOptions): Promise<HoldfastProcess> {
  const child = spawnCommand(["serve", ...(options.args ?? [])], environment(options), options.preloads);
  const ended = once(child, "exit").then(([code]) => (code as number | null) ?? undefined);
  const { onLine } = options;
  if (onLine !== undefined && child.stdout !== null) createInterface(child.stdout).on("line", onLine);
  const { grpc, http } = await readDoors(child);
  const doors = openDoors(grpc, http);
  return {
    ...doors,
    pid: child.pid as number,
    signal: (signal) => child.kill(signal),
    tell: (line) => child.stdin?.write(`${line}\n`),
    ended,
    kill: async () => {
      doors.close();
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** What a command of Holdfast printed, and how it ended. */
export interface CommandResult {
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command of Holdfast (`migrate`, or a `serve` that cannot start) to its end. */
export async function runHoldfast(args: readonly string[], options: HoldfastOptions): Promise<CommandResult> {
  const child = spawnCommand(args, environment(options));
  const output = { stdout: "", stderr: "" };
  child.stdout?.on("data", (data) => {
    output.stdout += data;
  });
  child.stderr?.on("data", (data) => {
    output.stderr += data;
  });
  const [code] = await once(child, "close");
  return { code: (code as number | null) ?? undefined, ...output };
}

function environment({ redisUrl, databaseUrl, settings }: HoldfastOptions): Record<string, string> {
  return {
    REDIS_URL: redisUrl,
    DATABASE_URL: databaseUrl,
    HOLDFAST_GRPC_ADDR: "127.0.0.1:0",
    HOLDFAST_HTTP_ADDR: "127.0.0.1:0",
    // Tests change stores behind a server's back, at moments that are none of the verifier's business.
    HOLDFAST_VERIFY_SECONDS: "0",
    ...settings,
  };
}

function spawnCommand(
  args: readonly string[],
  env: Record<string, string>,
  preloads: readonly string[] = [],
): ChildProcess {
  const imports = [guard, ...preloads].flatMap((path) => ["--import", path]);
  return spawn(process.execPath, [...imports, "src/main.ts", ...args], {
    cwd: projectFolder,
    env: { ...baseEnvironment, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
}

/** Where the doors are, from the line that is logged when they are open. */
async function readDoors(child: ChildProcess): Promise<{ grpc: string; http: string }> {
  let log = "";
  child.stderr?.on("data", (data) => {
    log += data;
  });
  return new Promise((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`holdfast ended with exit code ${code}:\n${log}`)));
    child.stdout?.on("data", (data) => {
      log += data;
      const line = log.split("\n").find((each) => each.includes('"grpc":'));
      if (line?.endsWith("}") === true) resolve(JSON.parse(line));
    });
  });
}

/** Opens clients of a Holdfast that runs somewhere; nothing connects before the first call. */
export function openDoors(grpcAddress: string, httpUrl: string): Doors & { close(): void } {
  const sessions = new Http2SessionManager(`http://${grpcAddress}`);
  return {
    grpc: createClients(createGrpcTransport({ baseUrl: `http://${grpcAddress}`, sessionManager: sessions })),
    http: createClients(createConnectTransport({ baseUrl: httpUrl, httpVersion: "1.1", useBinaryFormat: false })),
    grpcAddress,
    httpUrl,
    close: () => sessions.abort(),
  };
}

function createClients(transport: Transport): Clients {
  const client = <Service extends DescService>(service: Service) => createClient(service, transport);
  return {
    inventory: client(InventoryService),
    orders: client(OrderService),
    users: client(UserService),
    subscriptions: client(SubscriptionService),
    events: client(EventService),
    admin: client(AdminService),
  };
}
