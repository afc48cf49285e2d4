import type { Http2Session } from "node:http2";

/**
 * How fast calls that are one too many are answered. Such an answer costs half of what an order does, and callers who repeat
 * at once would leave no time for anything else: with all of them answered at once, ten times the peak sold a twentieth of it (November
 * 2026). One for so many answers is sent at once; the others wait for their turn, from connection to connection, and their streams with
 * them: HTTP/2 bounds how many a connection may have, and libraries of gRPC keep the rest in the caller's process.
 */
export interface RefusalPace {
  /** A call was answered: what the machine can do says how many refusals it has time for. */
  answered(): void;
  /** Sends a refusal, now or when it is its turn. */
  add(refusal: PacedRefusal): void;
  /** Sends all that wait, and from now on at once. */
  end(): void;
}

/** The refusal of a call. */
export interface PacedRefusal {
  /** What it goes over; undefined when that is gone. */
  readonly session: Http2Session | undefined;
  /** Until when its caller waits, in ms since the epoch. */
  readonly deadlineMs: number;
  /** Whether nobody waits for it any more. */
  readonly isOver: boolean;
  sendNow(): void;
}

interface Waiting {
  readonly refusal: PacedRefusal;
  /** When it is sent at the latest, in ms since the epoch. */
  readonly untilMs: number;
}

/** Refusals for an answer, of all connections together: 3 % of the time that answers take. */
const refusalsPerAnswer = 1 / 16;
/** And so many a second besides, when hardly anything is answered. */
const refusalsPerSecond = 50;
/** As many at once; and as many before those that wait. */
const burstCount = 50;
const turnMs = 10;
/**
 * A refusal waits for such a share of the time that its caller has left, at most: it is worth more than a deadline that passes.
 * Spread, so that those who came at once are not all answered at once.
 */
const waitShare = { least: 0.25, most: 0.75 };

/** Creates the pace of a door. */
export function createRefusalPace(): RefusalPace {
  const lines = new Map<Http2Session | undefined, Waiting[]>();
  let isEnding = false;
  let timer: NodeJS.Timeout | undefined;
  let leftCount = burstCount;
  let filledAtMs = performance.now();

  const fill = (): void => {
    const nowMs = performance.now();
    leftCount = Math.min(burstCount, leftCount + ((nowMs - filledAtMs) / 1000) * refusalsPerSecond);
    filledAtMs = nowMs;
  };

  /** Sends the first of a line, leaving out whom nobody waits for; whether there was one. */
  const sendFirst = (session: Http2Session | undefined, line: Waiting[]): boolean => {
    let first = line.shift();
    while (first?.refusal.isOver === true) first = line.shift();
    if (line.length === 0) lines.delete(session);
    first?.refusal.sendNow();
    return first !== undefined;
  };

  const takeTurns = (): void => {
    fill();
    for (const [session, line] of lines) {
      if (leftCount < 1) break;
      // To the end of the row, where this goes on to while there is something left.
      lines.delete(session);
      lines.set(session, line);
      if (sendFirst(session, line)) leftCount -= 1;
    }
    const nowMs = Date.now();
    for (const [session, line] of lines) {
      while ((line[0]?.untilMs ?? Number.POSITIVE_INFINITY) <= nowMs) sendFirst(session, line);
    }
    if (lines.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };

  return {
    answered: () => {
      leftCount = Math.min(burstCount, leftCount + refusalsPerAnswer);
    },
    add: (refusal) => {
      fill();
      const { session, deadlineMs } = refusal;
      const line = lines.get(session);
      // While some wait, who has none that waits goes before them.
      const leastCount = lines.size === 0 ? 0 : -burstCount;
      if (isEnding || (line === undefined && leftCount > leastCount)) {
        leftCount -= 1;
        refusal.sendNow();
        return;
      }
      const nowMs = Date.now();
      const share = waitShare.least + Math.random() * (waitShare.most - waitShare.least);
      const waiting = { refusal, untilMs: nowMs + (deadlineMs - nowMs) * share };
      if (line === undefined) lines.set(session, [waiting]);
      else line.push(waiting);
      timer ??= setInterval(takeTurns, turnMs).unref();
    },
    end: () => {
      isEnding = true;
      for (const [session, line] of lines) {
        while (lines.has(session)) sendFirst(session, line);
      }
      clearInterval(timer);
    },
  };
}
