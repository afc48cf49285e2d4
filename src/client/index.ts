// What the package `holdfast` exports: a caller for other programs. Nothing of the server is in it.
export { createGrpcTransport, type GrpcTransport, type GrpcTransportOptions } from "./grpc-transport.ts";
export { createHoldfastClient, type HoldfastClient, type HoldfastClientOptions } from "./holdfast-client.ts";
export {
  type CartViolation,
  isUndecided,
  type KnownRefusal,
  type Refusal,
  RefusedError,
  refusalOf,
  type UnknownRefusal,
} from "./refusals.ts";
export type { RepeatOptions } from "./repeat.ts";
export { createRepeatingTransport } from "./repeating-transport.ts";
export type { Watched, WatchOptions } from "./watch.ts";
