/**
 * What Holdfast asks of whoever moves the money of GATEWAY orders.
 *
 * The outcome of a request is known (charged, declined) or it is not, and then the request is made again with the same key:
 * however often a key is asked for, the money moves once. An unknown outcome never ends an order.
 */

/** A charge that is to be made once. */
export interface Charge {
  readonly shopId: string;
  readonly orderId: string;
  /** Empty: a guest's order. */
  readonly userId: string;
  /** Minor units of the currency, more than 0. */
  readonly amountMinor: number;
  /** ISO 4217, upper case. */
  readonly currencyCode: string;
  /** The gateway has forgotten the key (`keyForgottenMs`): it only looks for the charge, and makes none. */
  readonly isKeyOld: boolean;
}

/** A charge whose outcome is known. Declined: nothing was charged, and nothing will be under this key. */
export type ChargeOutcome =
  | { readonly outcome: "charged"; readonly chargeId: string }
  | { readonly outcome: "declined"; readonly reason: string };

/** Money to give back once, out of one charge. */
export interface Refund {
  /** As `refundKey` makes it. */
  readonly key: string;
  readonly chargeId: string;
  /** Minor units of the charge's currency, more than 0. */
  readonly amountMinor: number;
  /** The gateway may have forgotten the key (`keyLifetimeMs`): it looks for the refund before it makes one. */
  readonly isKeyOld: boolean;
}

/** A gateway to the money. Both methods throw OutcomeUnknown when they cannot tell what happened. */
export interface PaymentGateway {
  /** Asks for a charge under its `chargeKey`. `signal` is aborted when nobody waits for the answer any more. */
  charge(charge: Charge, signal: AbortSignal): Promise<ChargeOutcome>;
  /** Asks for a refund and resolves with the gateway's id of it. */
  refund(refund: Refund, signal: AbortSignal): Promise<string>;
}

/**
 * Why an outcome is unknown. `unavailable`: the answer was lost, late, a 429 or a 5xx. `conflict`: the same key is being
 * worked on. Both are worth another attempt soon. `refused`: the gateway does not take the request as it is (a wrong API
 * key, a key that other parameters used): somebody has to look, and asking again soon does not help. `stopped`: the caller
 * wanted no further attempt.
 */
export type UnknownKind = "unavailable" | "conflict" | "refused" | "stopped";

/** More about an outcome that is unknown. */
export interface OutcomeUnknownOptions extends ErrorOptions {
  /** Whether the gateway was asked at all. Default true. */
  readonly wasAsked?: boolean;
}

/** The gateway may have moved the money or not. */
export class OutcomeUnknown extends Error {
  override readonly name = "OutcomeUnknown";
  readonly kind: UnknownKind;
  /** False: no attempt was made, since the gateway is left alone. An earlier request for the same key may have moved the money. */
  readonly wasAsked: boolean;

  constructor(kind: UnknownKind, message: string, { wasAsked = true, ...options }: OutcomeUnknownOptions = {}) {
    super(message, options);
    this.kind = kind;
    this.wasAsked = wasAsked;
  }
}

/** How long gateways are trusted to remember a key, in milliseconds: Stripe does for 24 h, less an hour to be sure. */
export const keyLifetimeMs = 23 * 3_600_000;

/**
 * From when on a charge is looked for that was still unknown when its key got old, in milliseconds: three hours after it was
 * asked for last, so that whatever was made is found (Stripe's search lags by a minute, by more in an outage).
 */
export const keyForgottenMs = 26 * 3_600_000;

/**
 * The key under which an order is charged: its id; outside of the shop `default` with the shop before it, because all
 * shops share one account. "/" is in no id, so two orders never share a key; nor do a charge and a refund, whatever an
 * order and a shop are called.
 */
export function chargeKey({ shopId, orderId }: Pick<Charge, "shopId" | "orderId">): string {
  const key = qualified(shopId, orderId);
  return /\.refund\.\d+$/.test(orderId) ? `${key}//charge` : key;
}

/** The key of an order's nth refund, counted from 1. */
export function refundKey(shopId: string, orderId: string, refundNumber: number): string {
  return `${qualified(shopId, orderId)}.refund.${refundNumber}`;
}

function qualified(shopId: string, orderId: string): string {
  return shopId === "default" ? orderId : `${shopId}/${orderId}`;
}
