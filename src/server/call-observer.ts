import type { Message } from "@bufbuild/protobuf";
import type { Call } from "./call.ts";

/** Is told of every call of an RPC, on every door. It is in every call's way: it must be quick and never throw. */
export interface CallObserver {
  /** The call was taken on; nobody has asked yet who calls. */
  readonly begun?: (call: Call) => void;
  /** The handler of a unary call has answered; whether its caller still waits is another matter. */
  readonly answered?: (call: Call, response: Message) => void;
  /** The call has ended, once: well when `error` is undefined. */
  readonly ended?: (call: Call, error: unknown) => void;
}
