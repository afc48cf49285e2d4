import { createHash } from "node:crypto";
import type { Message } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { type Reason, Refusal } from "../refusal.ts";
import { isId, shopIdOf } from "../shop/ids.ts";
import type { Call } from "./call.ts";
import type { CallObserver } from "./call-observer.ts";
import { traceIdOf } from "./trace-parent.ts";

/** What a refusal says that nobody wrote: counts, prices, states. Ids of users and texts stay out of the log. */
const loggedMetadata = new Set([
  ...["sku", "requested_count", "available_count", "held_count", "limit", "had_count", "expected_minor", "price_minor"],
  ...["field", "state", "scope", "alarm", "position", "epoch", "store_error"],
]);

const fieldPattern = /^[a-z][a-z0-9_.[\]]{0,127}$/;
const principalPattern = /^[\w.:/-]{1,256}$/;

/** How often a refusal for one reason is logged, in milliseconds. */
const sampleMs = 1000;

/** What the log says of a call, as far as it is known: which RPC, of which shop, under which id, by whom, in which trace. */
export function aboutCall(call: Call): Readonly<Record<string, unknown>> {
  const { shopId, requestId } = (call.request ?? {}) as Message & { shopId?: string; requestId?: string };
  return {
    rpc: call.endpoint.path,
    shop: shopId === undefined ? undefined : ifId(shopIdOf({ shopId })),
    request_id: ifId(requestId),
    principal: call.principal === "" ? undefined : nameOf(call.principal),
    trace: traceIdOf(call.traceParent),
  };
}

/**
 * Logs mutations that were refused: for each reason one a second, with how many went unlogged since the one before. What a
 * caller wrote is not in it, unless it has the form of an id: a request that is refused may hold anything. Also logs who had a
 * shop rebuilt, which no commit says.
 */
export function createCallLog(logger: Logger): CallObserver {
  const samples = new Map<Reason, { atMs: number; unlogged: number }>();
  return {
    ended: (call, error) => {
      if (call.method === AdminService.method.rebuildShop && hasBegun(call, error)) {
        logger.info({ ...aboutCall(call), completed: error === undefined }, "a caller had a shop rebuilt");
      }
      if (!call.endpoint.mutation || !(error instanceof Refusal)) {
        return;
      }
      const { reason } = error;
      const last = samples.get(reason);
      const nowMs = performance.now();
      if (last !== undefined && nowMs - last.atMs < sampleMs) {
        last.unlogged += 1;
        return;
      }
      samples.set(reason, { atMs: nowMs, unlogged: 0 });
      const { unlogged = 0 } = last ?? {};
      logger.info({ ...aboutCall(call), reason, ...aboutRefusal(error), unlogged }, "a mutation was refused");
    },
  };
}

/** Whether what a call asks for was begun: by somebody who may, as far as it was asked. Credentials that expire later end the call only. */
function hasBegun({ request }: Call, error: unknown): boolean {
  return request !== undefined && (!(error instanceof Refusal) || error.reason === "UNAUTHENTICATED");
}

function aboutRefusal({ details }: Refusal): Readonly<Record<string, unknown>> {
  const { metadata = {}, fieldViolations = [] } = details;
  const entries = Object.entries(metadata).filter(([name]) => loggedMetadata.has(name));
  const fields = fieldViolations.map(({ field }) => field).filter((field) => fieldPattern.test(field));
  return { ...Object.fromEntries(entries), fields: fields.length === 0 ? undefined : fields.slice(0, 10) };
}

function ifId(text: string | undefined): string | undefined {
  return isId(text) ? text : undefined;
}

/** A principal; one that may be an e-mail or a person's name as a digest, by which its lines can still be told from others. */
function nameOf(principal: string): string {
  return principalPattern.test(principal)
    ? principal
    : `sha256:${createHash("sha256").update(principal).digest("hex").slice(0, 16)}`;
}
