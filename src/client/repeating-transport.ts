import {
  clone,
  create,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Transport } from "@connectrpc/connect";
import { makeId } from "../shop/ids.ts";
import { toRefusedError } from "./refusals.ts";
import { createPatience, type RepeatOptions, repeatUntilDecided } from "./repeat.ts";

/**
 * A transport on another one (connect-node's or createGrpcTransport's) for `createClient`: gives every mutation without a
 * request id a UUIDv7, repeats unary calls that are undecided, and fails refused calls with RefusedError. Streams are
 * opened once.
 *
 * It keeps: whatever is sent twice carries the same request id, or is declared in the contract to do no harm twice. Which
 * RPCs those are stands in the descriptors: the field `request_id`, the option `idempotency_level`.
 */
export function createRepeatingTransport(transport: Transport, options: RepeatOptions = {}): Transport {
  const patience = createPatience(options);
  return {
    unary: (method, signal, timeoutMs, header, input, contextValues) => {
      const headers = new Headers(header);
      const message = withRequestId(method, headers, input);
      const isRepeatable =
        isMutation(method) || method.idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN;
      return repeatUntilDecided(
        (attemptMs) => transport.unary(method, signal, attemptMs, headers, message, contextValues),
        { timeoutMs, signal, isRepeatable },
        patience,
      ).catch((error) => {
        throw toRefusedError(error);
      });
    },
    stream: async (method, signal, timeoutMs, header, input, contextValues) => {
      try {
        const response = await transport.stream(method, signal, timeoutMs, header, input, contextValues);
        return { ...response, message: refusing(response.message) };
      } catch (error) {
        throw toRefusedError(error);
      }
    },
  };
}

/** Whether an RPC changes the shop: whether its request has a `request_id`. */
export function isMutation({ input }: DescMethod): boolean {
  return input.field.requestId !== undefined;
}

/** A copy of the caller's message, with an id if it needs one: what the caller does to its own one changes no attempt. */
function withRequestId<I extends DescMessage>(
  method: DescMethod & { readonly input: I },
  headers: Headers,
  input: MessageInitShape<I>,
): MessageShape<I> {
  const message = clone(method.input, create(method.input, input));
  const hasId = (message as { requestId?: string }).requestId !== "" || headers.has("idempotency-key");
  return isMutation(method) && !hasId ? Object.assign(message, { requestId: makeId() }) : message;
}

async function* refusing<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toRefusedError(error);
  }
}
