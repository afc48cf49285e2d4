import type { PeerCertificate } from "node:tls";
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { Identity } from "../auth/identity.ts";
import type { Perishable } from "../deadlines.ts";
import { Refusal } from "../refusal.ts";
import type { CallContext } from "./call-context.ts";
import type { Endpoint } from "./dispatcher.ts";
import { CallEnded } from "./errors.ts";
import { readTraceParent } from "./trace-parent.ts";

/**
 * One call in flight, whatever door it came through: each door derives its own. It ends exactly once, by an answer, a
 * failure, its deadline or its caller; what comes later is dropped.
 */
export abstract class Call implements CallContext, Perishable {
  static #count = 0;
  /** Among all calls of this process. */
  readonly number = Call.#count++;
  readonly endpoint: Endpoint;
  readonly draining: AbortSignal;
  identity: Identity | undefined;
  deadlineMs = Number.POSITIVE_INFINITY;
  /** When it came in, on the clock of `performance.now()`. */
  readonly beganAtMs = performance.now();
  /** What was asked; undefined until it is read. */
  request: Message | undefined;
  #traceParent: string | undefined;
  #onEnd: ((call: Call, error: unknown) => void) | undefined;
  #controller: AbortController | undefined;
  #reason: CallEnded | Refusal | undefined;
  #ended = false;

  constructor(endpoint: Endpoint, draining: AbortSignal) {
    this.endpoint = endpoint;
    this.draining = draining;
  }

  get method(): DescMethod {
    return this.endpoint.method;
  }

  get principal(): string {
    return this.identity?.principal ?? "";
  }

  /** That of the span that stands for this call where it is traced, else its caller's. */
  get traceParent(): string {
    this.#traceParent ??= readTraceParent(this.header("traceparent"));
    return this.#traceParent;
  }

  set traceParent(traceParent: string) {
    this.#traceParent = traceParent;
  }

  /** Most handlers never ask, and a controller costs more than all checks of a call together: it is made on demand. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) {
        this.#controller.abort(this.#reason);
      }
    }
    return this.#controller.signal;
  }

  /** True once the call was answered, failed or was given up. */
  get ended(): boolean {
    return this.#ended;
  }

  abstract header(name: string): string | undefined;

  /** The certificate the caller's connection came with, checked against the CA of the settings; undefined: none, or no TLS. */
  peerCertificate(): PeerCertificate | undefined {
    return undefined;
  }

  /** Sends the answer of a unary call, or throws before it has sent anything. */
  protected abstract sendResponse(response: Message): void;

  /** Sends a failure. */
  protected abstract sendFailure(error: unknown): void;

  /** Throws why the call has ended, when it has. */
  throwIfEnded(): void {
    if (this.#ended) {
      throw this.#reason ?? new CallEnded(Code.Canceled);
    }
  }

  /** Called by the dispatcher when it takes the call on. */
  begin(deadlineMs: number, onEnd: (call: Call, error: unknown) => void): void {
    this.deadlineMs = deadlineMs;
    this.#onEnd = onEnd;
  }

  /** Called by the dispatcher when it knows who calls. A stream ends with its caller's credentials at the latest. */
  identify(identity: Identity): void {
    this.identity = identity;
    if (this.method.methodKind !== "unary" && identity.expiresMs < this.deadlineMs) {
      this.deadlineMs = identity.expiresMs;
    }
  }

  /** Ends the call with an answer. */
  succeed(response: Message): void {
    if (!this.#ended) {
      this.sendResponse(response);
      this.#finish();
    }
  }

  /** Ends the call with a failure. */
  fail(error: unknown): void {
    if (this.#finish(error)) {
      this.sendFailure(error);
    }
  }

  /** Marks the call as ended well when the door has sent the end by itself; false when it had ended before. */
  close(): boolean {
    return this.#finish();
  }

  /** Ends the call because its deadline has passed, or a stream because its caller's credentials have expired. */
  expire(): void {
    this.#giveUp(
      this.deadlineMs === this.identity?.expiresMs ? credentialsExpired() : this.#ending(Code.DeadlineExceeded),
    );
  }

  /** Ends the call because its caller is gone, or because the transport has seen the deadline pass. */
  cancel(): void {
    if (this.#ended) {
      return; // the transport says so of every call, and an error costs 2 % of the server's time
    }
    // Timers may fire a millisecond early.
    this.#giveUp(this.#ending(Date.now() + 1 >= this.deadlineMs ? Code.DeadlineExceeded : Code.Canceled));
  }

  #ending(code: Code.DeadlineExceeded | Code.Canceled): CallEnded {
    return new CallEnded(code, this.endpoint.mutation);
  }

  #giveUp(reason: CallEnded | Refusal): void {
    if (this.#ended) {
      return;
    }
    this.#reason = reason;
    this.fail(reason);
    this.#controller?.abort(reason);
  }

  #finish(error?: unknown): boolean {
    if (this.#ended) {
      return false;
    }
    this.#ended = true;
    this.#onEnd?.(this, error);
    return true;
  }
}

function credentialsExpired(): Refusal {
  return new Refusal("UNAUTHENTICATED", "the credentials have expired: go on from the last position with new ones");
}
