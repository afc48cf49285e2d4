import { answerParent } from "./child.ts";
import type { Outcome } from "./rivals/rival.ts";
import { serveBytes, type Work } from "./serve-bytes.ts";
import { holdPath, orderPath } from "./workloads.ts";

/** What an echo needs. */
export interface EchoRequest {
  /** The answer to every call. */
  readonly response: Uint8Array;
}

const done = Promise.resolve<Outcome>("done");
const nothing: Work = () => done;

// As little as grpc-js can do: bytes in, bytes out, of the size of an order and its answer.
answerParent<EchoRequest>(({ response }) => serveBytes({ [orderPath]: nothing, [holdPath]: nothing }, response));
