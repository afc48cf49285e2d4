import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { Call } from "./call.ts";
import { createRequestIdInterceptor, type RequestIdOptions } from "./request-id-interceptor.ts";
import { createValidationInterceptor } from "./validation-interceptor.ts";

/**
 * Looks at a request before its handler does, and throws a Refusal to stop it. Synchronous on purpose: what the chain must
 * not cost is a promise per interceptor and call.
 */
export interface Interceptor {
  (call: Call, req: Message): void;
  /** Called once for every RPC before the first call, for what would make that call wait. */
  readonly prepare?: (method: DescMethod) => void;
}

/** The interceptors of every call on every door, in their order. */
export function createInterceptors(options: RequestIdOptions): Interceptor[] {
  return [createValidationInterceptor(), createRequestIdInterceptor(options)];
}
