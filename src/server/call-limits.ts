import type { Http2Session } from "node:http2";

/**
 * How many calls at a time the connections of a door may have. One whose calls are refused as too many may have fewer from then
 * on: its caller's library keeps the rest until others have ended (RFC 9113, 5.1.2), where they cost this process nothing. A
 * refusal costs half of what an order does, so that callers who repeat theirs at once would leave no time for anything else.
 */
export interface CallLimits {
  /** A call of this connection was refused as one too many. Undefined, here and below: the connection is gone. */
  refused(session: Http2Session | undefined): void;
  /** A stream that may last: it takes none of the places of other calls. */
  lastingBegan(session: Http2Session | undefined): void;
  lastingEnded(session: Http2Session | undefined): void;
}

/** What the limits need. */
export interface CallLimitsOptions {
  /** Calls of a connection at a time, at most. */
  readonly maxCount: number;
}

/** A connection that may not have as many as others. */
interface Limited {
  count: number;
  /** Calls that were refused since the last look. */
  refusedCount: number;
  /** Looks since the limit was lowered. */
  lookCount: number;
  /** What its caller was told last. */
  saidCount: number;
}

/** Never fewer: others of its caller's calls, of calm shops, are kept back with those of the hot one. */
const leastCount = 32;
/** Refusals between two looks that are too many, as a share of what the connection may have. Fewer cost little. */
const refusedShare = 0.1;
/** How often limits are looked at, in milliseconds: time enough for a caller to hear of one and to have calls answered. */
const lookMs = 100;
/**
 * What a limit changes by. It goes up seldom, and far: a peer that goes by a higher limit before it says that it knows of it, as
 * that of .NET may, has its connection closed by nghttp2.
 */
const step = { down: 0.5, up: 1.5, upLooks: 10 };

/** Creates the limits: each connection may have all, until a call is refused. */
export function createCallLimits({ maxCount }: CallLimitsOptions): CallLimits {
  const limited = new Map<Http2Session, Limited>();
  const lastingCounts = new WeakMap<Http2Session, number>();
  let timer: NodeJS.Timeout | undefined;

  const say = (session: Http2Session, limit: Limited): void => {
    const count = Math.min(maxCount, Math.floor(limit.count) + (lastingCounts.get(session) ?? 0));
    // A peer that has not answered the last one is told later: Node ends a session that has ten unanswered.
    if (count !== limit.saidCount && !session.pendingSettingsAck && !session.closed && !session.destroyed) {
      limit.saidCount = count;
      session.settings({ maxConcurrentStreams: count });
    }
  };

  const lower = (session: Http2Session, limit: Limited): void => {
    limit.lookCount = 0;
    limit.count = Math.max(Math.min(leastCount, maxCount), limit.count * step.down);
    say(session, limit);
  };

  const look = (): void => {
    for (const [session, limit] of limited) {
      limit.refusedCount = 0;
      limit.lookCount += 1;
      if (limit.lookCount % step.upLooks === 0) limit.count = Math.min(maxCount, limit.count * step.up);
      say(session, limit);
      // What could not be said yet is not forgotten.
      if (session.closed || session.destroyed || (limit.count === maxCount && limit.saidCount === maxCount))
        limited.delete(session);
    }
    if (limited.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };

  const countLasting = (session: Http2Session | undefined, change: number): void => {
    if (session !== undefined) lastingCounts.set(session, (lastingCounts.get(session) ?? 0) + change);
  };

  return {
    refused: (session) => {
      if (session === undefined) return;
      const limit = limited.get(session) ?? { count: maxCount, refusedCount: 0, lookCount: 1, saidCount: maxCount };
      limited.set(session, limit);
      timer ??= setInterval(look, lookMs).unref();
      limit.refusedCount += 1;
      // At once: those that are refused come back at once as well. Once between two looks.
      if (limit.refusedCount > limit.count * refusedShare && limit.lookCount > 0) lower(session, limit);
    },
    lastingBegan: (session) => countLasting(session, 1),
    lastingEnded: (session) => countLasting(session, -1),
  };
}
