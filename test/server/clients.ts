import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";

/** Clients of one transport. */
export interface TestClients {
  readonly inventory: Client<typeof InventoryService>;
  readonly orders: Client<typeof OrderService>;
  readonly events: Client<typeof EventService>;
}

/** Every way in: the doors and the protocols they speak. */
export const PROTOCOLS = ["gRPC", "Connect", "Connect JSON", "gRPC-Web"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** Generated clients for one of the ways in. */
export function createClients(protocol: Protocol, urls: { grpcUrl: string; httpUrl: string }): TestClients {
  const transport = createTransport(protocol, urls);
  return {
    inventory: createClient(InventoryService, transport),
    orders: createClient(OrderService, transport),
    events: createClient(EventService, transport),
  };
}

function createTransport(protocol: Protocol, { grpcUrl, httpUrl }: { grpcUrl: string; httpUrl: string }): Transport {
  switch (protocol) {
    case "gRPC":
      return createGrpcTransport({ baseUrl: grpcUrl });
    case "Connect":
      return createConnectTransport({ baseUrl: httpUrl, httpVersion: "1.1", useBinaryFormat: true });
    case "Connect JSON":
      return createConnectTransport({ baseUrl: httpUrl, httpVersion: "1.1", useBinaryFormat: false });
    case "gRPC-Web":
      return createGrpcWebTransport({ baseUrl: httpUrl, httpVersion: "1.1" });
  }
}

/** The error of a call that must fail. */
export async function errorOf(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => ConnectError.from(reason),
  );
  if (error === undefined) {
    throw new Error("the call succeeded");
  }
  return error;
}

/** Name of the error's code, with the reason of its ErrorInfo: `FailedPrecondition SOLD_OUT`. */
export function summaryOf(error: ConnectError): string {
  const [info] = error.findDetails(ErrorInfoSchema);
  return info === undefined ? Code[error.code] : `${Code[error.code]} ${info.reason}`;
}

/** All messages of a stream. */
export async function readAll<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of messages) {
    all.push(message);
  }
  return all;
}
