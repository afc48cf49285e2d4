import { type FileHandle, open } from "node:fs/promises";

/** A mutation that was acknowledged to a caller. */
export interface Acknowledged {
  readonly requestId: string;
  readonly position: number;
  readonly commitId: string;
}

/**
 * What was acknowledged, one JSON line each, on the disk before the caller goes on. Whoever comes while a write is under
 * way is written with the next one, so many callers share an fdatasync.
 */
export class Ledger {
  readonly entries: Acknowledged[] = [];
  readonly #file: FileHandle;
  #waiting: Acknowledged[] = [];
  #writing: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async open(path: string): Promise<Ledger> {
    return new Ledger(await open(path, "a"));
  }

  /** Resolves when the entry is on the disk. */
  async add(entry: Acknowledged): Promise<void> {
    this.#waiting.push(entry);
    this.#next ??= this.#writing.then(() => this.#write());
    await this.#next;
  }

  async #write(): Promise<void> {
    const entries = this.#waiting;
    this.#waiting = [];
    this.#writing = this.#next as Promise<void>;
    this.#next = undefined;
    await this.#file.appendFile(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""));
    await this.#file.datasync();
    this.entries.push(...entries);
  }

  async close(): Promise<void> {
    await this.#next;
    await this.#writing;
    await this.#file.close();
  }
}
