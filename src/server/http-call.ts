import type { PeerCertificate } from "node:tls";
import type { DescService, Message } from "@bufbuild/protobuf";
import { createContextKey, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import type { Refusal } from "../refusal.ts";
import { noEnding } from "./ages.ts";
import { Call } from "./call.ts";
import type { Dispatcher, Endpoint } from "./dispatcher.ts";
import { toCallError, toConnectError } from "./errors.ts";
import type { ResponseStream } from "./response-stream.ts";
import { createTurns, type Turns } from "./turns.ts";

/** Messages of a stream that may be sent without letting others in between: connect takes some 0.1 ms for each. */
const MESSAGES_PER_TURN = 16;

/** What the HTTP door and the handlers that connect calls tell each other about one call. */
export interface HttpExchange {
  /** True once connect has parsed the request and called the handler. */
  reached: boolean;
  /** What to answer instead of calling the handler. */
  refusal: Refusal | undefined;
  /** The certificate that the connection came with. */
  readonly certificate?: PeerCertificate | undefined;
  /** Aborted when the connection is too old. */
  readonly ending: AbortSignal;
}

/** Where connect carries the exchange of a call. */
export const httpExchange = createContextKey<HttpExchange>({
  reached: false,
  refusal: undefined,
  ending: noEnding,
});

/** An implementation for connect that leads every RPC of a service to the dispatcher. */
export function createServiceImpl<S extends DescService>(service: S, dispatcher: Dispatcher): ServiceImpl<S> {
  const turns = createTurns();
  const entries = service.methods.map((method) => {
    const endpoint = dispatcher.endpoints.get(`/${service.typeName}/${method.name}`) as Endpoint;
    return [method.localName, createImplementation(endpoint, dispatcher, turns)];
  });
  return Object.fromEntries(entries);
}

function createImplementation(endpoint: Endpoint, dispatcher: Dispatcher, turns: Turns) {
  return endpoint.method.methodKind === "unary"
    ? (req: Message, context: HandlerContext) => answer(endpoint, dispatcher, req, context)
    : (req: Message, context: HandlerContext) => stream(endpoint, { dispatcher, turns }, req, context);
}

/** A call that came through connect, which has parsed its request and will write its answer. */
class HttpCall extends Call {
  readonly #context: HandlerContext;
  readonly #onResponse: (response: Message) => void;
  readonly #onFailure: (error: unknown) => void;

  constructor(
    endpoint: Endpoint,
    dispatcher: Dispatcher,
    context: HandlerContext,
    onResponse: (response: Message) => void,
    onFailure: (error: unknown) => void,
  ) {
    super(endpoint, drainingOf(endpoint, dispatcher, context));
    this.#context = context;
    this.#onResponse = onResponse;
    this.#onFailure = onFailure;
    dispatcher.begin(this, context.timeoutMs());
    if (context.signal.aborted) {
      this.cancel();
    } else {
      context.signal.addEventListener("abort", () => this.cancel(), { once: true });
    }
  }

  header(name: string): string | undefined {
    return this.#context.requestHeader.get(name) ?? undefined;
  }

  override peerCertificate(): PeerCertificate | undefined {
    return this.#context.values.get(httpExchange).certificate;
  }

  protected override sendResponse(response: Message): void {
    this.#onResponse(response);
  }

  protected override sendFailure(error: unknown): void {
    this.#onFailure(toConnectError(toCallError(error)));
  }
}

/** Only streams are told to end. */
function drainingOf({ method }: Endpoint, { draining }: Dispatcher, { values }: HandlerContext): AbortSignal {
  return method.methodKind === "unary" ? draining : AbortSignal.any([draining, values.get(httpExchange).ending]);
}

/** The request, once it is known that nothing is wrong with how it was written. */
function readFrom(req: Message, context: HandlerContext): () => Message {
  const exchange = context.values.get(httpExchange);
  exchange.reached = true;
  return () => {
    if (exchange.refusal !== undefined) {
      throw exchange.refusal;
    }
    return req;
  };
}

function answer(endpoint: Endpoint, dispatcher: Dispatcher, req: Message, context: HandlerContext): Promise<Message> {
  return new Promise((resolve, reject) => {
    const call = new HttpCall(endpoint, dispatcher, context, resolve, reject);
    dispatcher.answer(call, readFrom(req, context));
  });
}

/** Made by hand, not by a generator: a generator's `return()` waits for a pending `next()` to come back. */
function stream(
  endpoint: Endpoint,
  { dispatcher, turns }: { readonly dispatcher: Dispatcher; readonly turns: Turns },
  req: Message,
  context: HandlerContext,
): AsyncIterable<Message> {
  // What the dispatcher makes of an error, which need not be what was thrown.
  let failure: unknown;
  const keepFailure = (error: unknown): void => {
    failure = error;
  };
  const call = new HttpCall(endpoint, dispatcher, context, () => undefined, keepFailure);
  const read = readFrom(req, context);
  let responses: ResponseStream | undefined;
  let sentCount = 0;

  async function next(): Promise<IteratorResult<Message>> {
    try {
      responses ??= await dispatcher.stream(call, read);
      sentCount += 1;
      if (sentCount % MESSAGES_PER_TURN === 0) await turns.next();
      const message = await responses.next();
      if (message !== undefined) {
        return { done: false, value: message };
      }
      call.close();
      return { done: true, value: undefined };
    } catch (error) {
      dispatcher.fail(call, error);
      throw failure ?? toConnectError(toCallError(error));
    }
  }

  async function stop(): Promise<IteratorResult<Message>> {
    call.cancel();
    responses?.stop();
    return { done: true, value: undefined };
  }

  return { [Symbol.asyncIterator]: () => ({ next, return: stop }) };
}
