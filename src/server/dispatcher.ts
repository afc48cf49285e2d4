import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Logger } from "pino";
import type { Identity } from "../auth/identity.ts";
import type { DoorLimits } from "../config.ts";
import { crashPoint } from "../crash-point.ts";
import { createDeadlines } from "../deadlines.ts";
import type { Authenticate } from "./authenticator.ts";
import type { Call } from "./call.ts";
import type { CallContext, Handlers } from "./call-context.ts";
import { aboutCall } from "./call-log.ts";
import type { CallObserver } from "./call-observer.ts";
import { isFault } from "./errors.ts";
import type { Interceptor } from "./interceptors.ts";
import { compileWriter } from "./message-writer.ts";
import { createResponseStream, type ResponseStream } from "./response-stream.ts";

type AnyHandler = (req: Message, ctx: CallContext) => Promise<Message> | AsyncIterable<Message>;

/** A service with all its handlers. */
export interface BoundService {
  readonly service: DescService;
  readonly handlers: Readonly<Record<string, AnyHandler>>;
}

/** Puts a service and its handlers together, checked against each other by the compiler. */
export function bindService<S extends DescService>(service: S, handlers: Handlers<S>): BoundService {
  return { service, handlers: handlers as unknown as BoundService["handlers"] };
}

/** An RPC with its handler. */
export interface Endpoint {
  readonly method: DescMethod;
  /** `/package.Service/Method`. */
  readonly path: string;
  /** True: it changes something, and carries a `request_id`. */
  readonly mutation: boolean;
  readonly handle: AnyHandler;
}

/** What both doors call: the same checks, the same handlers, the same errors. */
export interface Dispatcher {
  readonly services: readonly DescService[];
  /** All RPCs by path. */
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  /** Aborted by beginDrain. */
  readonly draining: AbortSignal;
  /** Tells all streams to end after the message they are at. */
  beginDrain(): void;
  /** Takes a call on: from here on its deadline is watched. `timeoutMs`: the caller's own. */
  begin(call: Call, timeoutMs: number | undefined): void;
  /** Answers a unary call. `read` parses the request, and throws a Refusal when it cannot. */
  answer(call: Call, read: () => Message): void;
  /** Answers a streaming call: the responses, ended when the call ends. Throws or rejects like `answer` fails. */
  stream(call: Call, read: () => Message): ResponseStream | Promise<ResponseStream>;
  /** Fails a call; an error that is a fault of ours is logged, once and here only. */
  fail(call: Call, error: unknown): void;
}

/** What a dispatcher needs. */
export interface DispatcherOptions {
  readonly services: readonly BoundService[];
  /** Asks who calls, before anything else is looked at. Undefined: nobody is asked. */
  readonly authenticate?: Authenticate | undefined;
  /** Run in order before the handler; each may throw a Refusal. */
  readonly interceptors: readonly Interceptor[];
  /** Turns an error of a handler into the Refusal the caller should get, where it has one; otherwise gives it back. */
  readonly explain?: (error: unknown) => unknown;
  /** Runs every handler; default: as it is. */
  readonly within?: (<Value>(call: Call, work: () => Value) => Value) | undefined;
  readonly limits: Pick<DoorLimits, "defaultDeadlineMs" | "maxDeadlineMs">;
  /** Told of every call. It is given the RPCs before the first one. */
  readonly observe?: readonly ((endpoints: Iterable<Endpoint>) => CallObserver)[];
  readonly logger: Logger;
}

/**
 * Makes the dispatcher. Deadlines and cancellation are honoured before the handler begins; what a handler has decided
 * after that is decided, also when its caller no longer waits for the answer.
 */
export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { services, authenticate, interceptors, explain, within, limits, logger } = options;
  const endpoints = new Map(services.flatMap(endpointsOf).map((endpoint) => [endpoint.path, endpoint]));
  for (const { method } of endpoints.values()) {
    for (const { prepare } of interceptors) {
      prepare?.(method);
    }
  }
  const deadlines = createDeadlines();
  const drain = new AbortController();
  const observers = (options.observe ?? []).map((create) => create(endpoints.values()));
  const end = (call: Call, error: unknown): void => {
    deadlines.remove(call);
    for (const { ended } of observers) {
      ended?.(call, error);
    }
  };

  /** Does something once it is known who calls: at once when the credentials are known, else when they are verified. */
  function identified<T>(call: Call, proceed: () => T | Promise<T>): T | Promise<T> {
    const identity = authenticate?.(call);
    if (identity instanceof Promise) {
      return identity.then((found) => {
        identify(call, found);
        return proceed();
      });
    }
    if (identity !== undefined) {
      identify(call, identity);
    }
    return proceed();
  }

  function identify(call: Call, identity: Identity): void {
    deadlines.remove(call);
    call.identify(identity);
    if (!call.ended) {
      deadlines.add(call);
    }
  }

  function enter(call: Call, read: () => Message): Promise<Message> | AsyncIterable<Message> {
    if (Date.now() >= call.deadlineMs) {
      call.expire();
    }
    // Only a call that is still wanted may reach its handler, and so its script.
    call.throwIfEnded();
    const req = read();
    call.request = req;
    for (const intercept of interceptors) {
      intercept(call, req);
    }
    crashPoint("before handler");
    const { handle } = call.endpoint;
    return within === undefined ? handle(req, call) : within(call, () => handle(req, call));
  }

  function fail(call: Call, cause: unknown): void {
    const error = explain === undefined ? cause : explain(cause);
    if (isFault(error)) {
      logger.error({ err: error, ...aboutCall(call) }, "a call failed");
    }
    call.fail(error);
  }

  return {
    services: services.map(({ service }) => service),
    endpoints,
    draining: drain.signal,
    beginDrain: () => drain.abort(),
    begin: (call, timeoutMs) => {
      call.begin(deadlineOf(call.endpoint.method, timeoutMs, limits), end);
      deadlines.add(call);
      for (const { begun } of observers) {
        begun?.(call);
      }
    },
    answer: (call, read) => {
      crashPoint("before call");
      let response: Promise<Message>;
      try {
        response = identified<Message>(call, () => enter(call, read) as Promise<Message>) as Promise<Message>;
      } catch (error) {
        fail(call, error);
        return;
      }
      response.then(
        (message) => {
          crashPoint("after handler");
          for (const { answered } of observers) {
            answered?.(call, message);
          }
          try {
            call.succeed(message);
            crashPoint("after call");
          } catch (error) {
            fail(call, error);
          }
        },
        (error: unknown) => fail(call, error),
      );
    },
    stream: (call, read) =>
      identified(call, () => createResponseStream(call, enter(call, read) as AsyncIterable<Message>)),
    fail,
  };
}

function endpointsOf({ service, handlers }: BoundService): Endpoint[] {
  return service.methods.map((method) => {
    const handler = handlers[method.localName];
    if (handler === undefined || (method.methodKind !== "unary" && method.methodKind !== "server_streaming")) {
      throw new Error(`${service.typeName}.${method.name} cannot be served: it has no handler or streams requests`);
    }
    compileWriter(method.output);
    return {
      method,
      path: `/${service.typeName}/${method.name}`,
      mutation: isMutation(method),
      handle: handler.bind(handlers),
    };
  });
}

function isMutation({ idempotency, input }: DescMethod): boolean {
  return (
    idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS &&
    input.fields.some((field) => field.name === "request_id")
  );
}

function deadlineOf(
  method: DescMethod,
  timeoutMs: number | undefined,
  { defaultDeadlineMs, maxDeadlineMs }: DispatcherOptions["limits"],
): number {
  if (method.methodKind === "unary") {
    return Date.now() + Math.min(timeoutMs ?? defaultDeadlineMs, maxDeadlineMs);
  }
  return timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs;
}
