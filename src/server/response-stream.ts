import type { Message } from "@bufbuild/protobuf";
import type { Call } from "./call.ts";

/** The responses of a streaming call, taken one by one, so that a slow reader is never written to faster than it reads. */
export interface ResponseStream {
  /** The next response; undefined after the last. Rejects when the handler fails or the call ends first. */
  next(): Promise<Message | undefined>;
  /** Tells the handler that nothing more will be taken. May be called at any time, also twice. */
  stop(): void;
}

/**
 * Takes responses from a handler for as long as the call lasts. When the call ends, a pending `next` rejects at once, and
 * the handler's `return()` is called: a handler that waits for something is left waiting until it looks at `ctx.signal`,
 * but its caller is not.
 */
export function createResponseStream(call: Call, responses: AsyncIterable<Message>): ResponseStream {
  const iterator = responses[Symbol.asyncIterator]();
  let done = false;
  let rejectPending: ((reason: unknown) => void) | undefined;

  function stop(): void {
    call.signal.removeEventListener("abort", onAbort);
    if (!done) {
      done = true;
      // What a handler throws while it cleans up has no caller to go to.
      iterator.return?.().catch(() => undefined);
    }
  }

  function onAbort(): void {
    stop();
    rejectPending?.(call.signal.reason);
  }

  function finish(): void {
    done = true;
    stop();
  }

  // Not Promise.race with a promise of the call's end: every race would leave a reaction on it until the stream is over.
  function next(): Promise<Message | undefined> {
    return new Promise((resolve, reject) => {
      if (done) {
        reject(call.signal.reason ?? new Error("the stream is over"));
        return;
      }
      rejectPending = reject;
      iterator.next().then(
        (result) => {
          if (result.done === true) {
            finish();
          }
          resolve(result.done === true ? undefined : result.value);
        },
        (error: unknown) => {
          finish();
          reject(error);
        },
      );
    });
  }

  if (call.signal.aborted) {
    stop();
  } else {
    call.signal.addEventListener("abort", onAbort);
  }
  return { next, stop };
}
