import { once } from "node:events";
import { get } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Doors } from "../helpers/holdfast.ts";

/** What stands before several servers: new connections go in turn to those that say they are ready, old ones stay. */
export interface Balancer {
  /** `127.0.0.1:<port>`, of the gRPC doors. */
  readonly grpcAddress: string;
  /** Of the HTTP doors. */
  readonly httpUrl: string;
  /** Takes a server in; resolves when it is ready. */
  add(server: Doors): Promise<void>;
  /** Connections that a server refused which had said it was ready, or that found none that did. */
  readonly refusedCount: number;
  stop(): Promise<void>;
}

/** How often `/readyz` is asked, in milliseconds. */
const probeMs = 100;

/** Starts a balancer on two free ports. */
export async function startBalancer(): Promise<Balancer> {
  const ready = new Set<Doors>();
  const probes: NodeJS.Timeout[] = [];
  const counts = { refused: 0, turn: 0 };
  const choose = (): Doors | undefined => {
    counts.turn += 1;
    return [...ready][counts.turn % ready.size];
  };
  const open = async (portOf: (doors: Doors) => number) => {
    const sockets = new Set<Socket>();
    const server = createServer({ noDelay: true }, (client) => {
      const doors = choose();
      const target = connect({ port: doors === undefined ? 0 : portOf(doors), host: "127.0.0.1", noDelay: true });
      let isOpen = false;
      target.once("connect", () => {
        isOpen = true;
      });
      target.once("close", () => {
        counts.refused += isOpen ? 0 : 1;
      });
      client.pipe(target).pipe(client);
      for (const [socket, other] of [
        [client, target],
        [target, client],
      ] as const) {
        sockets.add(socket);
        socket.on("error", () => other.destroy());
        socket.on("close", () => {
          sockets.delete(socket);
          other.end();
        });
      }
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const stop = async (): Promise<void> => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    };
    return { port: (server.address() as AddressInfo).port, stop };
  };
  const grpc = await open(({ grpcAddress }) => Number(grpcAddress.split(":")[1]));
  const http = await open(({ httpUrl }) => Number(new URL(httpUrl).port));
  return {
    grpcAddress: `127.0.0.1:${grpc.port}`,
    httpUrl: `http://127.0.0.1:${http.port}`,
    add: (server) =>
      new Promise((resolve) => {
        const probe = async (): Promise<void> => {
          if ((await readiness(server.httpUrl)) === 200) ready.add(server);
          else ready.delete(server);
          if (ready.has(server)) resolve();
        };
        void probe();
        probes.push(setInterval(probe, probeMs));
      }),
    get refusedCount() {
      return counts.refused;
    },
    stop: async () => {
      for (const probe of probes) clearInterval(probe);
      await Promise.all([grpc.stop(), http.stop()]);
    },
  };
}

/** The status of `/readyz`; undefined when nobody answers. */
export function readiness(httpUrl: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    get(`${httpUrl}/readyz`, { agent: false }, (res) => resolve(res.resume().statusCode)).on("error", () =>
      resolve(undefined),
    );
  });
}
