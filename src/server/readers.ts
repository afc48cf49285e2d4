import { ForgetfulMap } from "../forgetful-map.ts";

/** Somebody who has something to read. */
export interface Reader {
  /** No two have the same. */
  readonly number: number;
  /** Whether anything was sent that it has not taken yet. */
  readonly hasUnread: boolean;
  /** Grows whenever it takes something. */
  readonly takenCount: number;
  /** `takenCount` when it was last looked at with something unread; at first -1. For the readers' use only. */
  seenTakenCount: number;
  /** Called once: it has taken nothing for too long. */
  giveUp(): void;
}

/** Watches over everybody who has something to read. */
export interface Readers {
  add(reader: Reader): void;
  remove(reader: Reader): void;
}

/**
 * Gives up readers that take nothing of what was sent to them for `unreadMs`, at most twice that. What they hold is bounded
 * for each, but without this they would hold it for as long as they like. One look at all of them: a call that is read at
 * once, as nearly all are, pays for being added and removed only.
 */
export function createReaders(unreadMs: number): Readers {
  const readers = new ForgetfulMap<number, Reader>();
  let timer: NodeJS.Timeout | undefined;

  function look(): void {
    timer = undefined;
    readers.forEach((reader) => {
      if (!reader.hasUnread) {
        reader.seenTakenCount = -1;
      } else if (reader.seenTakenCount === reader.takenCount) {
        readers.delete(reader.number);
        reader.giveUp();
      } else {
        reader.seenTakenCount = reader.takenCount;
      }
    });
    if (readers.size > 0) wait();
  }

  function wait(): void {
    if (timer === undefined) timer = setTimeout(look, unreadMs).unref();
  }

  return {
    add: (reader) => {
      readers.set(reader.number, reader);
      wait();
    },
    remove: (reader) => void readers.delete(reader.number),
  };
}
