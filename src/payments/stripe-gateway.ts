import Stripe from "stripe";
import { type Charge, type ChargeOutcome, chargeKey, OutcomeUnknown, type PaymentGateway } from "./gateway.ts";

/** Where and how charges are made at Stripe. */
export interface StripeGatewayOptions {
  /** STRIPE_API_KEY. */
  readonly apiKey: string;
  /** STRIPE_API_BASE, an origin. Default `https://api.stripe.com`. */
  readonly apiBase: string;
  /** STRIPE_PAYMENT_METHOD: what is charged. Default `pm_card_visa`, the card of Stripe's test mode. */
  readonly paymentMethod: string;
  /** How long a request may take, in milliseconds. Default 3,000. */
  readonly attemptTimeoutMs: number;
}

/** Requests that Stripe refuses for what they ask, not for how: nobody will ever charge them. */
const hopelessCodes: ReadonlySet<string | undefined> = new Set(["amount_too_small", "amount_too_large"]);

/**
 * Charges with PaymentIntents that are created and confirmed in one request, under the order's key; one attempt per call.
 *
 * Stripe remembers for 24 h what it answered under a key, a 500 too. Such a remembered failure would come back for ever, so
 * it makes the adapter look for what the failed request did: a PaymentIntent or refund carries its key in its metadata. The
 * same when the key was used with other parameters (STRIPE_PAYMENT_METHOD was another one then), or has become too old.
 */
export function createStripeGateway(options: StripeGatewayOptions): PaymentGateway {
  const stripe = createClient(options);
  return {
    charge: (charge) => charged(stripe, charge, options.paymentMethod),
    refund: async ({ key, chargeId, amountMinor, isKeyOld }) => {
      const params = { charge: chargeId, amount: amountMinor, metadata: { idempotency_key: key } };
      const create = () => stripe.refunds.create(params, { idempotencyKey: key });
      const found = isKeyOld ? await told(() => findRefund(stripe, chargeId, key)) : undefined;
      return refunded(found ?? (await toldOrFound(create, () => findRefund(stripe, chargeId, key))));
    },
  };
}

/**
 * Over fetch, because the client of Node's http repeats a request whose connection was cut by itself, whatever
 * `maxNetworkRetries` says, and its time-out is for silence only, not for the whole request.
 */
function createClient({ apiKey, apiBase, attemptTimeoutMs }: StripeGatewayOptions): Stripe {
  const { protocol, hostname, port } = new URL(apiBase);
  return new Stripe(apiKey, {
    httpClient: Stripe.createFetchHttpClient(),
    maxNetworkRetries: 0,
    timeout: attemptTimeoutMs,
    telemetry: false,
    protocol: protocol === "http:" ? "http" : "https",
    host: hostname,
    port: port === "" ? (protocol === "http:" ? 80 : 443) : port,
  });
}

async function charged(stripe: Stripe, charge: Charge, paymentMethod: string): Promise<ChargeOutcome> {
  const key = chargeKey(charge);
  const { orderId, shopId, userId } = charge;
  const params: Stripe.PaymentIntentCreateParams = {
    amount: charge.amountMinor,
    currency: charge.currencyCode.toLowerCase(),
    confirm: true,
    payment_method: paymentMethod,
    // Nobody is there to be sent to a bank's page: what would need that is declined.
    automatic_payment_methods: { enabled: true, allow_redirects: "never" },
    error_on_requires_action: true,
    metadata: { idempotency_key: key, order_id: orderId, shop_id: shopId, user_id: userId },
  };
  const create = () => stripe.paymentIntents.create(params, { idempotencyKey: key });
  const find = () => findIntent(stripe, key, params);
  try {
    const intent = charge.isKeyOld ? await told(find) : await toldOrFound(create, find);
    if (intent === undefined) {
      return { outcome: "declined", reason: "never_charged" };
    }
    // A repeat is answered with what was true at first; a charge that was being processed may be over by now.
    return outcomeOf(isOver(intent) ? intent : await told(() => stripe.paymentIntents.retrieve(intent.id)));
  } catch (error) {
    const { cause } = error as Error;
    if (cause instanceof Stripe.errors.StripeError && isDecline(cause)) {
      return { outcome: "declined", reason: cause.decline_code || cause.code || "card_error" };
    }
    throw error;
  }
}

function isOver({ status }: Stripe.PaymentIntent): boolean {
  return status === "succeeded" || status === "canceled" || status === "requires_payment_method";
}

function outcomeOf(intent: Stripe.PaymentIntent): ChargeOutcome {
  if (intent.status === "succeeded") {
    const { latest_charge: latest } = intent;
    return { outcome: "charged", chargeId: (typeof latest === "string" ? latest : latest?.id) ?? intent.id };
  }
  if (isOver(intent)) {
    return { outcome: "declined", reason: intent.last_payment_error?.code ?? intent.status };
  }
  throw new OutcomeUnknown("unavailable", `PaymentIntent ${intent.id} is ${intent.status}`);
}

function refunded({ id, status }: Stripe.Refund): string {
  if (status === "failed" || status === "canceled") {
    throw new OutcomeUnknown("refused", `refund ${id} is ${status}`);
  }
  return id;
}

/** The PaymentIntent that was made under a key for this amount: another Holdfast on the account may have used the key too. */
async function findIntent(
  stripe: Stripe,
  key: string,
  wanted: Pick<Stripe.PaymentIntentCreateParams, "amount" | "currency">,
): Promise<Stripe.PaymentIntent | undefined> {
  const { data } = await stripe.paymentIntents.search({ query: `metadata["idempotency_key"]:"${key}"` });
  return data.find(
    ({ metadata, amount, currency }) =>
      metadata.idempotency_key === key && amount === wanted.amount && currency === wanted.currency,
  );
}

async function findRefund(stripe: Stripe, charge: string, key: string): Promise<Stripe.Refund | undefined> {
  for await (const refund of stripe.refunds.list({ charge, limit: 100 })) {
    if (refund.metadata?.idempotency_key === key) {
      return refund;
    }
  }
  return undefined;
}

/** What a request is answered; where the answer says nothing of the first request with its key, what that one made. */
async function toldOrFound<Thing>(
  create: () => Promise<Thing>,
  find: () => Promise<Thing | undefined>,
): Promise<Thing> {
  try {
    return await told(create);
  } catch (error) {
    if (!isAboutFirst(error)) {
      throw error;
    }
    const found = await told(find);
    if (found === undefined) {
      throw error;
    }
    return found;
  }
}

/** What Stripe answers; an OutcomeUnknown when that says nothing of the outcome, with Stripe's error as its cause. */
async function told<Answer>(request: () => Promise<Answer>): Promise<Answer> {
  try {
    return await request();
  } catch (cause) {
    if (!(cause instanceof Stripe.errors.StripeError)) {
      throw cause;
    }
    const { statusCode = "no status", type, message } = cause;
    throw new OutcomeUnknown(kindOf(cause), `${type} (${statusCode}): ${message}`, { cause });
  }
}

function kindOf({ statusCode }: Stripe.errors.StripeError): OutcomeUnknown["kind"] {
  if (statusCode === 409) {
    return "conflict";
  }
  // Without a status: the connection or the answer was lost, late or garbled.
  return statusCode === undefined || statusCode === 429 || statusCode >= 500 ? "unavailable" : "refused";
}

function isDecline({ statusCode, rawType, code }: Stripe.errors.StripeError): boolean {
  return (statusCode === 402 && rawType === "card_error") || (statusCode === 400 && hopelessCodes.has(code));
}

/** Whether a request met what an earlier one with its key left: a failure that Stripe remembered, or other parameters. */
function isAboutFirst(error: unknown): boolean {
  const { cause } = error as Error;
  if (!(cause instanceof Stripe.errors.StripeError)) {
    return false;
  }
  const isRemembered = (cause.statusCode ?? 0) >= 500 && cause.headers?.["idempotent-replayed"] === "true";
  return isRemembered || cause.rawType === "idempotency_error";
}
