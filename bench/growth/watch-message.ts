/**
 * The little of protobuf that a watcher needs who wants to know whether commits come in order and how late they are: a
 * WatchEventsResponse is looked at without making objects of it, in about a microsecond a commit.
 */

/** Told of what is in a message, in its order. */
export interface WatchListener {
  /** A commit, with the time at which it was decided in milliseconds since the epoch. */
  onCommit(position: number, timeMs: number): void;
  /** Everything durable has been sent. */
  onCaughtUp(): void;
}

/** Field numbers of the contract: of WatchEventsResponse, EventBatches, EventBatch and Timestamp. */
const response = { batch: 1, batches: 2, caughtUp: 4 };
const batches = { batch: 1 };
const batch = { position: 1, commitTime: 6 };
const timestamp = { seconds: 1, nanos: 2 };

/** Reads the message that is in `bytes` from `start` to `end`. */
export function readWatchMessage(bytes: Buffer, start: number, end: number, listener: WatchListener): void {
  const reader = new FieldReader(bytes, start, end);
  while (reader.next()) {
    if (reader.field === response.batch) {
      readBatch(bytes, reader.valueAt, reader.at, listener);
    } else if (reader.field === response.batches) {
      const inner = new FieldReader(bytes, reader.valueAt, reader.at);
      while (inner.next()) {
        if (inner.field === batches.batch) {
          readBatch(bytes, inner.valueAt, inner.at, listener);
        }
      }
    } else if (reader.field === response.caughtUp) {
      listener.onCaughtUp();
    }
  }
}

/** Fields come in the order of their numbers: the events, which come last, are not looked at. */
function readBatch(bytes: Buffer, start: number, end: number, listener: WatchListener): void {
  const reader = new FieldReader(bytes, start, end);
  let position = 0;
  while (reader.next()) {
    if (reader.field === batch.position) {
      position = reader.value;
    } else if (reader.field === batch.commitTime) {
      listener.onCommit(position, readTimeMs(bytes, reader.valueAt, reader.at));
      return;
    }
  }
  throw new Error("a commit without a time");
}

function readTimeMs(bytes: Buffer, start: number, end: number): number {
  const reader = new FieldReader(bytes, start, end);
  let timeMs = 0;
  while (reader.next()) {
    timeMs += reader.field === timestamp.seconds ? reader.value * 1000 : 0;
    timeMs += reader.field === timestamp.nanos ? reader.value / 1_000_000 : 0;
  }
  return timeMs;
}

const wireType = { varint: 0, bytes: 2 };

class FieldReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  /** Behind the field that was read last. */
  at: number;
  field = 0;
  /** Of a number. */
  value = 0;
  /** Where a text or message begins; it ends at `at`. */
  valueAt = 0;

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes;
    this.at = start;
    this.#end = end;
  }

  /** Reads the next field; false at the end. */
  next(): boolean {
    if (this.at >= this.#end) {
      return false;
    }
    const tag = this.#varint();
    this.field = tag >>> 3;
    this.value = this.#varint();
    this.valueAt = this.at;
    if ((tag & 7) === wireType.bytes) {
      this.at += this.value;
    } else if ((tag & 7) !== wireType.varint) {
      throw new Error(`the contract has no fields of wire type ${tag & 7} here`);
    }
    return true;
  }

  #varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#bytes[this.at] as number;
      this.at += 1;
      value += (byte & 127) * factor;
      if (byte < 128) {
        return value;
      }
    }
  }
}
