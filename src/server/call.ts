import type { DescMethod, Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { CallContext } from "./call-context.ts";
import type { Perishable } from "./deadlines.ts";
import type { Endpoint } from "./dispatcher.ts";
import { CallEnded } from "./errors.ts";

/**
 * One call in flight, whatever door it came through: each door derives its own. It ends exactly once, by an answer, a
 * failure, its deadline or its caller; what comes later is dropped.
 */
export abstract class Call implements CallContext, Perishable {
  readonly endpoint: Endpoint;
  readonly draining: AbortSignal;
  principal = "";
  deadlineMs = Number.POSITIVE_INFINITY;
  #onEnd: ((call: Call) => void) | undefined;
  #controller: AbortController | undefined;
  #reason: CallEnded | undefined;
  #ended = false;

  constructor(endpoint: Endpoint, draining: AbortSignal) {
    this.endpoint = endpoint;
    this.draining = draining;
  }

  get method(): DescMethod {
    return this.endpoint.method;
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
  begin(deadlineMs: number, onEnd: (call: Call) => void): void {
    this.deadlineMs = deadlineMs;
    this.#onEnd = onEnd;
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
    if (this.#finish()) {
      this.sendFailure(error);
    }
  }

  /** Marks the call as ended when the door has sent the end by itself; false when it had ended before. */
  close(): boolean {
    return this.#finish();
  }

  /** Ends the call because its deadline has passed. */
  expire(): void {
    this.#giveUp(Code.DeadlineExceeded);
  }

  /** Ends the call because its caller is gone, or because the transport has seen the deadline pass. */
  cancel(): void {
    // Timers may fire a millisecond early.
    this.#giveUp(Date.now() + 1 >= this.deadlineMs ? Code.DeadlineExceeded : Code.Canceled);
  }

  #giveUp(code: Code.DeadlineExceeded | Code.Canceled): void {
    if (this.#ended) {
      return;
    }
    this.#reason = new CallEnded(code, this.endpoint.mutation);
    this.fail(this.#reason);
    this.#controller?.abort(this.#reason);
  }

  #finish(): boolean {
    if (this.#ended) {
      return false;
    }
    this.#ended = true;
    this.#onEnd?.(this);
    return true;
  }
}
