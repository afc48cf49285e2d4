import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { Call } from "./call.ts";
import { createPermissionInterceptor, type PermissionOptions } from "./permission-interceptor.ts";
import { createRateInterceptor } from "./rate-interceptor.ts";
import type { RateLimits } from "./rate-limits.ts";
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

/** What interceptors are asked for. */
export interface InterceptorOptions extends RequestIdOptions {
  /** What a caller may do is looked at. It needs a dispatcher that authenticates. Undefined: it is not. */
  readonly permission?: PermissionOptions | undefined;
  /** How often callers may call. Undefined: as often as they like. */
  readonly rates?: RateLimits | undefined;
}

/** The interceptors of every call on every door, in their order. */
export function createInterceptors({ permission, rates, ...options }: InterceptorOptions): Interceptor[] {
  const permissions = permission === undefined ? [] : [createPermissionInterceptor(permission)];
  const limits = rates === undefined ? [] : [createRateInterceptor(rates)];
  return [...permissions, createValidationInterceptor(), createRequestIdInterceptor(options), ...limits];
}
