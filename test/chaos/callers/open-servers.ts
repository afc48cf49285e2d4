import { openDoors } from "../../helpers/holdfast.ts";

/** Where a server of the run is, for the whole run. */
export interface ServerAddress {
  /** `127.0.0.1:<port>` */
  readonly grpc: string;
  /** `http://127.0.0.1:<port>` */
  readonly http: string;
}

export type OpenDoors = ReturnType<typeof openDoors>;

/** Clients of every server; a server that is away is dialled again by the next call. */
export function openServers(servers: readonly ServerAddress[]): readonly OpenDoors[] {
  return servers.map(({ grpc, http }) => openDoors(grpc, http));
}
