import type { Message } from "@bufbuild/protobuf";
import { Refusal } from "../refusal.ts";
import { isId } from "../shop/ids.ts";
import type { Call } from "./call.ts";
import type { Interceptor } from "./interceptors.ts";
import { validationFailed } from "./validation-interceptor.ts";

/** How request ids are asked for. */
export interface RequestIdOptions {
  /** True: every mutation without a request id is refused. */
  readonly requireRequestId: boolean;
}

/** The header that stands in for an empty `request_id`. */
export const REQUEST_ID_HEADER = "idempotency-key";

type Mutation = Message & { requestId: string };

/**
 * Puts the header `idempotency-key` into the `request_id` of a mutation. A mutation that stays without an id is refused
 * where the server asks for ids, and where the call is a client's automatic retry: nobody could tell whether the first
 * attempt has taken effect. Otherwise the shop makes one.
 */
export function createRequestIdInterceptor({ requireRequestId }: RequestIdOptions): Interceptor {
  return (call, req) => {
    if (!call.endpoint.mutation) {
      return;
    }
    const header = call.header(REQUEST_ID_HEADER);
    if (header !== undefined) {
      takeFromHeader(req as Mutation, header);
    } else if ((req as Mutation).requestId === "" && (requireRequestId || isRetry(call))) {
      throw new Refusal("REQUEST_ID_REQUIRED", "without a request_id a repeated mutation could take effect twice");
    }
  };
}

function takeFromHeader(req: Mutation, header: string): void {
  const id = header.replace(/^"(.*)"$/, "$1");
  if (!isId(id)) {
    throw mismatch(`the header ${REQUEST_ID_HEADER} must be 1 to 64 characters of A-Z a-z 0-9 . _ -`);
  }
  if (req.requestId !== "" && req.requestId !== id) {
    throw mismatch(`is not the id in the header ${REQUEST_ID_HEADER}`);
  }
  req.requestId = id;
}

function mismatch(description: string): Refusal {
  return validationFailed([{ field: "request_id", description }]);
}

function isRetry(call: Call): boolean {
  return Number(call.header("grpc-previous-rpc-attempts") ?? 0) > 0;
}
