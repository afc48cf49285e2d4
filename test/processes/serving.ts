import { Agent } from "node:http";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import {
  type Doors,
  type HoldfastOptions,
  type HoldfastProcess,
  openDoors,
  spawnHoldfast,
} from "../helpers/holdfast.ts";
import { until } from "../helpers/until.ts";

/** A Holdfast of several processes. */
export interface Serving extends HoldfastProcess {
  /** What all its processes have logged. */
  readonly lines: readonly LogLine[];
  /** The pids that a number has had, the newest last. */
  pidsOf(number: number): number[];
}

/** A line of the log. */
export interface LogLine {
  readonly pid: number;
  readonly msg: string;
  /** The number of the serving process that wrote it, or that it is about. */
  readonly process?: number;
  /** Of the line that says where the doors are. */
  readonly processes?: number;
}

/** Starts a Holdfast of so many processes on the given stores. */
export async function serve(processCount: number, options: HoldfastOptions): Promise<Serving> {
  const lines: LogLine[] = [];
  const holdfast = await spawnHoldfast({
    ...options,
    settings: { HOLDFAST_PROCESSES: String(processCount), ...options.settings },
    onLine: (line) => lines.push(JSON.parse(line)),
  });
  const count = lines.find(({ processes }) => processes !== undefined)?.processes ?? 1;
  const numbers = Array.from({ length: count }, (_, index) => index + 1);
  const haveAllSaidSo = () => count === 1 || numbers.every((number) => pidsOf(lines, number).length > 0);
  await until("every process has said that it serves", haveAllSaidSo);
  return { ...holdfast, lines, pidsOf: (number) => pidsOf(lines, number) };
}

/** The pids that a number has had, by what its processes say when they serve. */
export function pidsOf(lines: readonly LogLine[], number: number): number[] {
  return lines.filter(({ msg }) => msg === `process ${number} serves`).map(({ pid }) => pid);
}

/** A connection of its own to one of the doors. */
export interface Connection {
  /** A call through it; opens it, if need be. */
  call(): Promise<unknown>;
  readonly isOpen: boolean;
}

/** A connection to each door; the first call opens them. */
export function connectTo({ grpcAddress, httpUrl }: Doors): { readonly grpc: Connection; readonly http: Connection } {
  const sessionManager = new Http2SessionManager(`http://${grpcAddress}`);
  const grpc = createClient(
    InventoryService,
    createGrpcTransport({ baseUrl: `http://${grpcAddress}`, sessionManager }),
  );
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const transport = createConnectTransport({ baseUrl: httpUrl, httpVersion: "1.1", nodeOptions: { agent } });
  const http = createClient(InventoryService, transport);
  return {
    grpc: {
      call: () => grpc.listProducts({}),
      get isOpen() {
        return ["open", "idle"].includes(sessionManager.state());
      },
    },
    http: {
      call: () => http.listProducts({}),
      get isOpen() {
        return Object.values(agent.freeSockets).flat().length === 1;
      },
    },
  };
}

/** So many sets of clients, each with a connection of its own to the gRPC door. */
export function openClients({ grpcAddress, httpUrl }: Doors, count: number): ReturnType<typeof openDoors>[] {
  return Array.from({ length: count }, () => openDoors(grpcAddress, httpUrl));
}
