import { AsyncLocalStorage } from "node:async_hooks";
import { Code } from "@connectrpc/connect";
import {
  type Context,
  isSpanContextValid,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { TraceState } from "@opentelemetry/core";
import type { PaymentObserver, PaymentOutcome } from "../metrics/payment-metrics.ts";
import { Refusal } from "../refusal.ts";
import type { Call } from "../server/call.ts";
import type { CallObserver } from "../server/call-observer.ts";
import { codeOf } from "../server/errors.ts";
import { readTraceParent } from "../server/trace-parent.ts";
import { type LogEntry, traceParentOf } from "../shop/log-entry.ts";
import type { ScriptRunner } from "../shop/redis.ts";

/** Makes spans of what a server does: of calls, and within them of their scripts and queries; of flushes; of payments. */
export interface Tracing {
  readonly calls: CallObserver;
  /** Does what a call asks for: scripts and queries belong to its span. Those of streams belong to none. */
  within<Value>(call: Call, work: () => Value): Value;
  /** The same runner, with a span for each script of a call. */
  traceScripts(redis: ScriptRunner): ScriptRunner;
  /** A query took so many milliseconds and is over. */
  readonly queried: (ms: number, sql: string) => void;
  /** A statement made these commits durable, and took so many milliseconds. */
  readonly flushed: (entries: readonly LogEntry[], ms: number) => void;
  /** The payment gateway was asked, for so many milliseconds, and the span links to who wanted it; undefined: it was not, and there is no span. */
  readonly asked: PaymentObserver["asked"];
}

/** Links of one span at most; OpenTelemetry drops more. */
const maxLinks = 128;
/** What the gateway may say of a payment; after anything else it is asked again. */
const outcomesKnown: ReadonlySet<PaymentOutcome> = new Set(["charged", "declined", "refunded"]);
/** Characters of a statement that a span tells; values are never in it. */
const maxStatement = 1000;

/**
 * A call's span continues its caller's trace; it and all within it carry the caller's `tracestate` on. The commit keeps the
 * `traceparent` of that span, so that whoever watches can link to it; the span of the flush, which many calls share, links
 * to all of them, and that of a payment to the call that wanted it.
 */
export function createTracing(tracer: Tracer): Tracing {
  const spans = new WeakMap<Call, Span>();
  const current = new AsyncLocalStorage<Span>();

  const spanned = async <Value>(name: string, parent: Span, work: () => Promise<Value>): Promise<Value> => {
    const options = { kind: SpanKind.CLIENT, attributes: { "db.system.name": "redis" } };
    const span = tracer.startSpan(name, options, contextOf(parent));
    try {
      return await work();
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR });
      throw error;
    } finally {
      span.end();
    }
  };

  return {
    calls: {
      begun: (call) => {
        const span = startCall(tracer, call);
        spans.set(call, span);
        if (span.isRecording()) {
          call.traceParent = formatTraceParent(span.spanContext());
        }
      },
      ended: (call, error) => endCall(spans.get(call), call, error),
    },
    within: (call, work) => current.run(spans.get(call) as Span, work),
    traceScripts: (redis) => {
      const run: ScriptRunner["run"] = (script, keys, args) => {
        const parent = current.getStore();
        const work = () => redis.run(script, keys, args);
        return parent?.isRecording() === true ? spanned(`script ${script.name}`, parent, work) : work();
      };
      return Object.create(redis, { run: { value: run } }) as ScriptRunner;
    },
    queried: (ms, sql) => {
      const parent = current.getStore();
      if (parent?.isRecording() === true) {
        const attributes = { "db.system.name": "postgresql", "db.query.text": sql.slice(0, maxStatement) };
        const options = { kind: SpanKind.CLIENT, startTime: Date.now() - ms, attributes };
        tracer.startSpan("query", options, contextOf(parent)).end();
      }
    },
    flushed: (entries, ms) => {
      const links = linksTo(entries.map(traceParentOf));
      if (links.length > 0) {
        const attributes = { "db.system.name": "postgresql", "db.operation.batch.size": entries.length };
        tracer
          .startSpan("flush", {
            kind: SpanKind.CLIENT,
            startTime: Date.now() - ms,
            attributes: { ...attributes, "holdfast.position": entries.at(-1)?.position ?? 0 },
            links: links.slice(0, maxLinks),
          })
          .end();
      }
    },
    asked: (kind, outcome, ms, traceParent) => {
      if (ms !== undefined) {
        const options = {
          kind: SpanKind.CLIENT,
          startTime: Date.now() - ms,
          attributes: { "holdfast.outcome": outcome },
          links: linksTo([traceParent ?? ""]),
        };
        const span = tracer.startSpan(`payment ${kind}`, options, ROOT_CONTEXT);
        span.setStatus({ code: outcomesKnown.has(outcome) ? SpanStatusCode.UNSET : SpanStatusCode.ERROR });
        span.end();
      }
    },
  };
}

function startCall(tracer: Tracer, call: Call): Span {
  const { method, path } = call.endpoint;
  const attributes = { "rpc.system": "grpc", "rpc.service": method.parent.typeName, "rpc.method": method.name };
  const parent = parseTraceParent(call.traceParent, call.header("tracestate"));
  const context = parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent);
  return tracer.startSpan(path.slice(1), { kind: SpanKind.SERVER, attributes }, context);
}

/** A refusal is an answer; what counts as an error is what the server could not do, as OpenTelemetry's rules for RPCs have it. */
function endCall(span: Span | undefined, call: Call, error: unknown): void {
  if (span?.isRecording() !== true) {
    return;
  }
  const code = error === undefined ? 0 : codeOf(error);
  span.setAttribute("rpc.grpc.status_code", code);
  if (error instanceof Refusal) {
    span.setAttribute("holdfast.reason", error.reason);
  }
  if (call.principal !== "") {
    span.setAttribute("holdfast.authenticated", true);
  }
  if ([Code.Unknown, Code.DeadlineExceeded, Code.Internal, Code.Unavailable].includes(code as Code)) {
    span.setStatus({ code: SpanStatusCode.ERROR });
  }
  span.end();
}

function contextOf(parent: Span): Context {
  return trace.setSpan(ROOT_CONTEXT, parent);
}

/** Links to those of these spans that are sampled. */
function linksTo(traceParents: readonly string[]): Link[] {
  return traceParents
    .map((traceParent) => parseTraceParent(traceParent))
    .filter((context) => context !== undefined && (context.traceFlags & TraceFlags.SAMPLED) !== 0)
    .map((context) => ({ context: context as SpanContext }));
}

/**
 * `tracestate` says nothing without a `traceparent`. Members of it that are malformed are dropped, and those for which 32
 * members or 512 characters leave no room.
 */
function parseTraceParent(text: string | undefined, tracestate?: string): SpanContext | undefined {
  const [, traceId = "", spanId = "", flags = "0"] = readTraceParent(text).split("-");
  const context = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
  if (!isSpanContextValid(context)) {
    return undefined;
  }
  return tracestate === undefined ? context : { ...context, traceState: new TraceState(tracestate) };
}

function formatTraceParent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
}
