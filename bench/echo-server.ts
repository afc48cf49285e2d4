import { answerParent } from "./child.ts";
import { serveBytes } from "./serve-bytes.ts";

/** What an echo needs. */
export interface EchoRequest {
  readonly path: string;
  /** The answer to every call. */
  readonly response: Uint8Array;
}

// As little as grpc-js can do: bytes in, bytes out, of the size of an order and its answer.
answerParent<EchoRequest>(({ path, response }) => serveBytes(path, response, async () => {}));
