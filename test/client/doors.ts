import {
  createGrpcTransport as createConnectNodeGrpcTransport,
  createConnectTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import {
  createGrpcTransport,
  createHoldfastClient,
  type HoldfastClient,
  type RepeatOptions,
} from "../../src/client/index.ts";
import type { Doors } from "../helpers/holdfast.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";

/** The transports that a client is used with. */
export const transportNames = ["grpc-js", "connect-node by gRPC", "connect-node by HTTP/1.1 and JSON"] as const;

/** Opens a transport to one of the doors behind a proxy. */
export async function openTransport(
  name: (typeof transportNames)[number],
  doors: Doors,
  cleanUp: AsyncDisposableStack,
) {
  const isHttp = name === "connect-node by HTTP/1.1 and JSON";
  const proxy = await startProxy(isHttp ? doors.httpUrl : `http://${doors.grpcAddress}`);
  cleanUp.defer(() => proxy.stop());
  const baseUrl = proxy.url;
  if (isHttp) {
    return { proxy, transport: createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }) };
  }
  if (name === "connect-node by gRPC") {
    const sessionManager = new Http2SessionManager(baseUrl);
    cleanUp.defer(() => sessionManager.abort());
    return { proxy, transport: createConnectNodeGrpcTransport({ baseUrl, sessionManager }) };
  }
  const transport = createGrpcTransport({ target: new URL(baseUrl).host });
  cleanUp.defer(() => transport.close());
  return { proxy, transport };
}

/** A client behind a proxy. */
export interface ProxiedClient {
  readonly proxy: TcpProxy;
  readonly client: HoldfastClient;
}

/** Opens a client whose connections can be cut. Default: over grpc-js. */
export async function openClient(
  doors: Doors,
  cleanUp: AsyncDisposableStack,
  options: RepeatOptions = {},
  name: (typeof transportNames)[number] = "grpc-js",
): Promise<ProxiedClient> {
  const { proxy, transport } = await openTransport(name, doors, cleanUp);
  return { proxy, client: createHoldfastClient({ transport, ...options }) };
}
