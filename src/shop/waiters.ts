import type { Refusal } from "../refusal.ts";
import type { MadeCommit } from "./made-commits.ts";

/**
 * Who waits for Postgres, and when they may be answered (ACK in docs/architecture.md).
 *
 * Invariant: a waiter is released by the identity `(position, commit_id)` of the log's last entry that its script saw,
 * never by the number alone. After a failover two histories can own one position.
 */

/**
 * What became of a waiter: what it saw is in Postgres; it has to run its script again; for one that changed nothing,
 * nobody can say now, because Postgres does not answer; or the shop cannot be opened, and the refusal says why.
 */
export type Release = "durable" | "run again" | "unavailable" | Refusal;

/** Somebody who waits until what a script saw is in Postgres. */
export interface Waiter {
  readonly position: number;
  readonly commitId: string;
  /**
   * A refusal or a read says what is true now, so it also needs a head that Postgres confirmed after the script's reply,
   * and then a look at the log that still held what it saw. A mutation only needs its own commit.
   */
  readonly observes: boolean;
  /** Whether Postgres confirmed a head (not beyond `position`) since this waiter came. */
  confirmed: boolean;
  /** Whether a look at the log after that confirmation still found what this waiter saw. */
  seen: boolean;
  readonly caller: Caller;
  /** The commit it made, when its reply told all of it. */
  readonly made: MadeCommit | undefined;
  readonly release: (release: Release) => void;
}

/** Whoever waits for an answer. A call that has ended throws on `throwIfEnded`, so that its work stops. */
export interface Caller {
  readonly ended: boolean;
  /** Until when an answer is of use, in ms since the epoch; Infinity = always. */
  readonly deadlineMs: number;
  throwIfEnded(): void;
}

/** A caller that waits for as long as it takes: the server itself. */
export const patientCaller: Caller = { ended: false, deadlineMs: Number.POSITIVE_INFINITY, throwIfEnded: () => {} };

/** The waiters of one shop. */
export class Waiters {
  #waiting: Waiter[] = [];

  get count(): number {
    return this.#waiting.length;
  }

  /** Waits until what was seen is durable, or has to be seen again. */
  wait(
    position: number,
    commitId: string,
    observes: boolean,
    caller: Caller,
    made?: MadeCommit | undefined,
  ): Promise<Release> {
    return new Promise((release) => {
      this.#waiting.push({ position, commitId, observes, confirmed: false, seen: false, caller, made, release });
    });
  }

  /** Postgres does not answer. Who changed nothing need not wait for it; nor need a call that has ended. */
  giveUp(): void {
    this.settle(new Set(this.#waiting.filter((each) => each.caller.ended)), "run again");
    this.settle(new Set(this.#waiting.filter((each) => each.observes)), "unavailable");
  }

  /** Those who wait now; the list does not change under the caller's hands. */
  snapshot(): readonly Waiter[] {
    return this.#waiting.slice();
  }

  /** Postgres confirmed a head for these waiters. One who saw less than the head has to look again. */
  confirm(waiters: readonly Waiter[], headPosition: number): void {
    const behind = new Set<Waiter>();
    for (const waiter of waiters) {
      if (!waiter.observes) {
        continue;
      }
      if (headPosition > waiter.position && !waiter.confirmed) {
        behind.add(waiter);
      } else {
        waiter.confirmed = true;
      }
    }
    this.settle(behind, "run again");
  }

  /** The shop was opened anew: what was confirmed and seen before says nothing about what it is now. */
  startOver(): void {
    for (const waiter of this.#waiting) {
      waiter.confirmed = false;
      waiter.seen = false;
    }
  }

  /** The shop cannot be opened: tells everybody why. */
  refuseAll(refusal: Refusal): void {
    this.settle(new Set(this.#waiting), refusal);
  }

  /** The shop will not be open before a moment (ms since the epoch): tells those who cannot wait that long. */
  refuseLate(readyAtMs: number, refusal: Refusal): void {
    this.settle(new Set(this.#waiting.filter(({ caller }) => caller.deadlineMs < readyAtMs)), refusal);
  }

  /** Releases waiters. */
  settle(waiters: ReadonlySet<Waiter>, release: Release): void {
    if (waiters.size === 0) {
      return;
    }
    this.#waiting = this.#waiting.filter((each) => !waiters.has(each));
    for (const waiter of waiters) {
      waiter.release(release);
    }
  }
}
