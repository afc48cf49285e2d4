import type { Message } from "@bufbuild/protobuf";
import { shopIdOf } from "../shop/ids.ts";
import type { Interceptor } from "./interceptors.ts";
import type { RateLimits } from "./rate-limits.ts";

/** Refuses calls above a rate. It comes last: what is refused for what it says does not count. */
export function createRateInterceptor(limits: RateLimits): Interceptor {
  return (call, req) => limits.take(call.principal, shopIdOf(req as Message & { readonly shopId: string }));
}
