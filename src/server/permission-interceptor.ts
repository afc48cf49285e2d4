import { type DescMethod, getOption, hasOption, type Message } from "@bufbuild/protobuf";
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import { type Access, access } from "../../gen/holdfast/v1/options_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import type { Identity } from "../auth/identity.ts";
import { Refusal } from "../refusal.ts";
import { shopIdOf } from "../shop/ids.ts";
import type { Call } from "./call.ts";
import type { Interceptor } from "./interceptors.ts";

const selfScope = "holdfast.self";
/** What buyers may pay by on their own: who is charged, or that the shop confirms it. The default gateway moves no money. */
const selfPayments = new Set([PaymentMethod.UNSPECIFIED, PaymentMethod.WALLET, PaymentMethod.EXTERNAL]);

/** The fields that permission looks at; which ones a request has, `prepare` has checked. */
type Subject = Message & {
  readonly shopId: string;
  readonly userId?: string;
  readonly paymentMethod?: PaymentMethod;
  readonly holdDuration?: Duration;
  readonly start?: { readonly case: string | undefined };
};

/** What permission depends on besides the contract. */
export interface PermissionOptions {
  /** How long `holdfast.self` may ask for a hold to last, in milliseconds: as long as one lasts that names no duration. */
  readonly holdMs: number;
}

/**
 * Refuses calls that the caller's credentials do not allow: by what the RPC asks for (`holdfast.v1.access`), what the request
 * names and what the credentials say, and nothing else. So the answer for a shop that does not exist is that for a shop of
 * somebody else.
 */
export function createPermissionInterceptor({ holdMs }: PermissionOptions): Interceptor {
  const accesses = new Map<DescMethod, Access>();
  return Object.assign(
    (call: Call, req: Message): void => {
      const asked = accesses.get(call.method) as Access;
      if (call.identity === undefined || !isAllowed(call.identity, asked, req as Subject, holdMs)) {
        throw denied(asked, asked.scopes);
      }
      if (asksForConsumer(req as Subject) && !hasOne(call.identity, asked.consumerScopes)) {
        throw denied(asked, asked.consumerScopes);
      }
    },
    { prepare: (method: DescMethod): void => void accesses.set(method, accessOf(method)) },
  );
}

function isAllowed(identity: Identity, { scopes, self, allShops }: Access, req: Subject, holdMs: number): boolean {
  const { shops } = identity;
  if (shops !== "*" && (allShops || !shops.has(shopIdOf(req)))) {
    return false;
  }
  return hasOne(identity, scopes) || (self && isOwn(identity, req, holdMs));
}

function hasOne(identity: Identity, scopes: readonly string[]): boolean {
  return scopes.some((scope) => identity.scopes.has(scope));
}

/** Whether it is the caller's own affair, and keeps nothing from others for longer than usual. */
function isOwn({ scopes, principal }: Identity, req: Subject, holdMs: number): boolean {
  const { userId, paymentMethod = PaymentMethod.UNSPECIFIED, holdDuration } = req;
  return (
    scopes.has(selfScope) &&
    userId === principal &&
    selfPayments.has(paymentMethod) &&
    (holdDuration === undefined || durationMs(holdDuration) <= holdMs)
  );
}

/** Whether it takes a consumer, and so ends whoever watches as that one now. */
function asksForConsumer({ start }: Subject): boolean {
  return start?.case === "consumer";
}

function denied({ allShops }: Access, [scope = ""]: readonly string[]): Refusal {
  const where = allShops ? "all shops" : "this shop";
  return new Refusal("PERMISSION_DENIED", `the credentials do not give ${scope} in ${where}`, { metadata: { scope } });
}

/** What an RPC asks for. Throws when it does not say, or says it of fields that it does not have. */
function accessOf(method: DescMethod): Access {
  const asked = getOption(method, access);
  const has = (name: string): boolean => method.input.fields.some((field) => field.name === name);
  if (!hasOption(method, access) || asked.scopes.length === 0 || !has("shop_id") || (asked.self && !has("user_id"))) {
    throw new Error(`${method.parent.typeName}.${method.name} does not say who may call it`);
  }
  return asked;
}
