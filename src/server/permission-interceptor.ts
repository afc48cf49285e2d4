import { type DescMethod, getOption, hasOption, type Message } from "@bufbuild/protobuf";
import { type Access, access } from "../../gen/holdfast/v1/options_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import type { Identity } from "../auth/identity.ts";
import { Refusal } from "../refusal.ts";
import { shopIdOf } from "../shop/ids.ts";
import type { Call } from "./call.ts";
import type { Interceptor } from "./interceptors.ts";

const selfScope = "holdfast.self";

/** The fields that permission looks at; which ones a request has, `prepare` has checked. */
type Subject = Message & {
  readonly shopId: string;
  readonly userId?: string;
  readonly paymentMethod?: PaymentMethod;
};

/**
 * Refuses calls that the caller's credentials do not allow: by what the RPC asks for (`holdfast.v1.access`), what the request
 * names and what the credentials say, and nothing else. So the answer for a shop that does not exist is that for a shop of
 * somebody else.
 */
export function createPermissionInterceptor(): Interceptor {
  const accesses = new Map<DescMethod, Access>();
  return Object.assign(
    (call: Call, req: Message): void => {
      const asked = accesses.get(call.method) as Access;
      if (call.identity === undefined || !isAllowed(call.identity, asked, req as Subject)) {
        throw denied(asked);
      }
    },
    { prepare: (method: DescMethod): void => void accesses.set(method, accessOf(method)) },
  );
}

function isAllowed(identity: Identity, { scopes, self, allShops }: Access, req: Subject): boolean {
  const { shops } = identity;
  if (shops !== "*" && (allShops || !shops.has(shopIdOf(req)))) {
    return false;
  }
  return scopes.some((scope) => identity.scopes.has(scope)) || (self && isOwn(identity, req));
}

/** Whether it is the caller's own affair. Nobody sells to itself without being charged: NONE is for the shop to say. */
function isOwn({ scopes, principal }: Identity, { userId, paymentMethod }: Subject): boolean {
  return scopes.has(selfScope) && userId === principal && paymentMethod !== PaymentMethod.NONE;
}

function denied({ scopes: [scope = ""], allShops }: Access): Refusal {
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
