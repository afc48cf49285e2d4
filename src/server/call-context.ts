import type {
  DescMethod,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageShape,
} from "@bufbuild/protobuf";
import type { Identity } from "../auth/identity.ts";

/** What a handler knows of the call it answers. The same on every door. */
export interface CallContext {
  /** The RPC that was called. */
  readonly method: DescMethod;
  /** Value of a request header by its lower-case name; repeated headers are joined with `, `. Undefined: not sent. */
  header(name: string): string | undefined;
  /** Who calls, by name; empty where callers are not asked. */
  readonly principal: string;
  /** Who calls, and what they may do; undefined where callers are not asked. */
  readonly identity: Identity | undefined;
  /** What it is part of, as `traceparent` of W3C Trace Context has it; empty: nobody said. */
  readonly traceParent: string;
  /** When the call ends unanswered, in ms since the epoch. Infinity for a stream whose caller set no deadline. */
  readonly deadlineMs: number;
  /** True once nobody waits for the answer any more. */
  readonly ended: boolean;
  /** Throws a CallEnded when the call has ended; cheaper than a look at `signal`. */
  throwIfEnded(): void;
  /**
   * Aborts when the deadline passes, the caller goes away or a stream's credentials expire; its reason is a CallEnded, or
   * in the last case a Refusal. Made on first use.
   */
  readonly signal: AbortSignal;
  /** Aborts when the server or this connection is about to close: a stream then returns after the message it is at. */
  readonly draining: AbortSignal;
}

/** Answers one RPC: one response, or as many as the iterable yields. Refuses by throwing a Refusal. */
export type Handler<M extends DescMethod> =
  M extends DescMethodUnary<infer I, infer O>
    ? (req: MessageShape<I>, ctx: CallContext) => Promise<MessageShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (req: MessageShape<I>, ctx: CallContext) => AsyncIterable<MessageShape<O>>
      : never;

/** A handler for every RPC of a service. None is optional: a forgotten one does not compile. */
export type Handlers<S extends DescService> = { readonly [M in keyof S["method"]]: Handler<S["method"][M]> };
