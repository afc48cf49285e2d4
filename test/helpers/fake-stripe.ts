import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * What becomes of a request, besides what it asks for. The first two lines are for repeats too, the others for the first
 * request with a key:
 * - `cut`, `unavailable`, `rate limit`: nothing happens; the connection is cut, or the answer is 503 or 429.
 * - `drop`: it happens, and the connection is cut in place of the answer.
 * - `decline`: 402, remembered under its key.
 * - `error`: it happens, and the answer is a 500 that is not remembered.
 * - `remembered error`: it happens, and the answer is a 500 now and for every repeat.
 * - `delay`: it happens, and the answer comes after `delayMs`; repeats before that are 409.
 * - `processing`: the charge is made, and the answer says that it is still under way.
 */
export type Fault =
  | "decline"
  | "cut"
  | "unavailable"
  | "rate limit"
  | "drop"
  | "error"
  | "remembered error"
  | "delay"
  | "processing";

/** A charge in the book. */
export interface BookedCharge {
  readonly id: string;
  readonly key: string;
  readonly amount: number;
  readonly currency: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A refund in the book. */
export interface BookedRefund {
  readonly id: string;
  readonly key: string;
  readonly charge: string;
  readonly amount: number;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A request as it came in. */
export interface StripeRequest {
  readonly method: string;
  readonly path: string;
  /** Empty: none. */
  readonly key: string;
  readonly params: Readonly<Record<string, string>>;
  /** 1 for the first POST with this key. */
  readonly attempt: number;
}

/** A server that speaks the part of Stripe's HTTP that Holdfast uses, and keeps idempotency keys as Stripe does. */
export interface FakeStripe {
  /** For STRIPE_API_BASE. */
  readonly url: string;
  /** What was charged: a second charge for the same thing would be a second entry. */
  readonly charges: readonly BookedCharge[];
  readonly refunds: readonly BookedRefund[];
  /** Every request so far. */
  readonly requests: readonly StripeRequest[];
  /** Decides what becomes of the requests from now on. */
  misbehave(choose: (request: StripeRequest) => Fault | undefined): void;
  /** Forgets all keys, as Stripe does after 24 h. */
  forgetKeys(): void;
  stop(): Promise<void>;
}

/** How a fake is started. */
export interface FakeStripeOptions {
  /** The only API key that is taken. Default `sk_test_holdfast`. */
  readonly apiKey?: string;
  /** How late a `delay` is, in milliseconds. Default 1,000. */
  readonly delayMs?: number;
}

interface Answer {
  readonly status: number;
  readonly body: object;
}

interface Remembered {
  readonly request: string;
  /** Undefined: being worked on. */
  answer: Answer | undefined;
}

interface Intent {
  readonly id: string;
  readonly object: "payment_intent";
  status: string;
  readonly latest_charge: string | null;
  readonly amount: number;
  readonly currency: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Starts a fake Stripe on a free port of this machine. */
export async function startFakeStripe(options: FakeStripeOptions = {}): Promise<FakeStripe> {
  const { apiKey = "sk_test_holdfast", delayMs = 1000 } = options;
  const charges: BookedCharge[] = [];
  const refunds: BookedRefund[] = [];
  const intents = new Map<string, Intent>();
  const requests: StripeRequest[] = [];
  const keys = new Map<string, Remembered>();
  const attempts = new Map<string, number>();
  let choose: (request: StripeRequest) => Fault | undefined = () => undefined;

  const makeCharge = ({ key, params }: StripeRequest, fault: Fault | undefined): Answer => {
    const metadata = nested(params, "metadata");
    const number = intents.size + 1;
    const isDeclined = fault === "decline";
    const chargeId = isDeclined ? null : `ch_${number}`;
    const [amount, currency] = [Number(params.amount), String(params.currency)];
    const intent: Intent = {
      id: `pi_${number}`,
      object: "payment_intent",
      status: isDeclined ? "requires_payment_method" : "succeeded",
      latest_charge: chargeId,
      amount,
      currency,
      metadata,
    };
    intents.set(intent.id, intent);
    if (chargeId === null) {
      const decline = { code: "card_declined", decline_code: "generic_decline", payment_intent: intent };
      return failure(402, "card_error", decline);
    }
    charges.push({ id: chargeId, key, amount, currency, metadata });
    return { status: 200, body: fault === "processing" ? { ...intent, status: "processing" } : { ...intent } };
  };
  const makeRefund = ({ key, params }: StripeRequest): Answer => {
    const { charge = "" } = params;
    const amount = Number(params.amount);
    const made = refunds.filter((each) => each.charge === charge).reduce((sum, each) => sum + each.amount, 0);
    const booked = charges.find(({ id }) => id === charge);
    if (booked === undefined || made + amount > booked.amount) {
      return failure(400, "invalid_request_error", { code: booked ? "charge_already_refunded" : "resource_missing" });
    }
    const refund = { id: `re_${refunds.length + 1}`, key, charge, amount, metadata: nested(params, "metadata") };
    refunds.push(refund);
    return { status: 200, body: refundBody(refund) };
  };
  const make = (request: StripeRequest, fault: Fault | undefined): Answer =>
    request.path === "/v1/payment_intents" ? makeCharge(request, fault) : makeRefund(request);

  const read = ({ path, params }: StripeRequest): Answer => {
    if (path === "/v1/payment_intents/search") {
      const [, name = "", value] = /^metadata\["(\w+)"\]:"([^"]*)"$/.exec(params.query ?? "") ?? [];
      const data = [...intents.values()].filter(({ metadata }) => metadata[name] === value);
      return { status: 200, body: { object: "search_result", data, has_more: false, url: path } };
    }
    if (path === "/v1/refunds") {
      const data = refunds.filter(({ charge }) => charge === params.charge).map(refundBody);
      return { status: 200, body: { object: "list", data, has_more: false, url: path } };
    }
    const intent = intents.get(path.replace("/v1/payment_intents/", ""));
    return intent === undefined ? failure(404, "invalid_request_error", {}) : { status: 200, body: intent };
  };

  const send = (response: ServerResponse, { status, body }: Answer, isReplayed = false): void => {
    response.writeHead(status, {
      "content-type": "application/json",
      "request-id": `req_${requests.length}`,
      ...(isReplayed ? { "idempotent-replayed": "true" } : {}),
    });
    response.end(JSON.stringify(body));
  };

  const write = async (request: StripeRequest, response: ServerResponse): Promise<void> => {
    const { key, path, params } = request;
    const fault = choose(request);
    if (fault === "cut") return void response.destroy();
    if (fault === "unavailable") return send(response, failure(503, "api_error", {}));
    if (fault === "rate limit") return send(response, failure(429, "invalid_request_error", { code: "rate_limit" }));
    const text = JSON.stringify([path, Object.entries(params).sort()]);
    const known = keys.get(key);
    if (known !== undefined && known.request !== text) {
      return send(response, failure(400, "idempotency_error", { message: "the key was used with other parameters" }));
    }
    if (known !== undefined && fault === "drop") return void response.destroy();
    if (known !== undefined) {
      return known.answer === undefined
        ? send(response, failure(409, "invalid_request_error", { code: "idempotency_key_in_use" }))
        : send(response, known.answer, true);
    }
    if (path === "/v1/payment_intents" && Number(params.amount) < 50) {
      return send(response, failure(400, "invalid_request_error", { code: "amount_too_small" }));
    }
    const remembered: Remembered = { request: text, answer: undefined };
    keys.set(key, remembered);
    const answer = make(request, fault);
    if (fault === "delay") await sleep(delayMs, undefined, { ref: false });
    const broken = failure(500, "api_error", {});
    remembered.answer = fault === "remembered error" ? broken : answer;
    if (fault === "drop") return void response.destroy();
    send(response, fault === "error" ? broken : remembered.answer);
  };

  const handle = async (message: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(message.url ?? "/", "http://stripe.test");
    const method = message.method ?? "";
    const body = await readText(message);
    const key = String(message.headers["idempotency-key"] ?? "");
    const attempt = (attempts.get(key) ?? 0) + 1;
    attempts.set(key, attempt);
    const params = Object.fromEntries(method === "POST" ? new URLSearchParams(body) : url.searchParams);
    const request: StripeRequest = { method, path: url.pathname, key, params, attempt };
    requests.push(request);
    if (message.headers.authorization !== `Bearer ${apiKey}`) {
      return send(response, failure(401, "invalid_request_error", { message: "Invalid API Key provided" }));
    }
    return method === "POST" ? write(request, response) : send(response, read(request));
  };

  const server = createServer((message, response) => {
    // A caller that was killed in mid-request is no fault of the server.
    handle(message, response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    charges,
    refunds,
    requests,
    misbehave: (chosen) => {
      choose = chosen;
    },
    forgetKeys: () => keys.clear(),
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function failure(status: number, type: string, details: object): Answer {
  return { status, body: { error: { type, message: `a fake ${status}`, ...details } } };
}

function refundBody({ id, charge, amount, metadata }: BookedRefund): object {
  return { id, object: "refund", charge, amount, metadata, status: "succeeded" };
}

/** `metadata[a]=b` as `{a: "b"}`. */
function nested(params: Readonly<Record<string, string>>, name: string): Record<string, string> {
  const entries = Object.entries(params).flatMap(([field, value]) => {
    const [, inner] = new RegExp(`^${name}\\[(\\w+)\\]$`).exec(field) ?? [];
    return inner === undefined ? [] : [[inner, value] as const];
  });
  return Object.fromEntries(entries);
}

async function readText(message: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of message) text += chunk;
  return text;
}
