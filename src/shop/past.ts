import type { Kysely } from "kysely";
import { readCommits } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import type { LogEntry } from "./log-entry.ts";

/**
 * What Postgres has of the shops' logs, for all watchers of a process that are behind what their hub holds. It is read in pages that
 * begin at multiples of their size, so that watchers who are about as far share them: those that come back after a restart, or all that
 * begin at the beginning, cost little more than one.
 *
 * Invariants: a page that is handed out after it was read was full, so nothing is missing from it, and is what Postgres had a second ago
 * at most, as if it had been read then; nobody waits for all the pages of another shop.
 */
export interface Past {
  /**
   * The commits from a position (inclusive) to the end of its page, in order. Empty: Postgres has none, or `signal`, which tells
   * that nobody wants them any more, was heard before they were read.
   */
  from(shopId: string, position: number, signal: AbortSignal): Promise<readonly LogEntry[]>;
  /** Keeps no page that is there by now: Postgres may have another history. */
  forget(): void;
}

/** How the past is read. */
export interface PastOptions {
  /** Pages that are read at a time, each over a connection; the others wait. */
  readonly maxReads: number;
  /** How long a page is kept for those who come after, in milliseconds; default 1,000. */
  readonly keptMs?: number;
  /** Characters of all commits that are kept, at most; default 5,000,000, some 5,000 orders. What watchers make of them is twice as much. */
  readonly keptLength?: number;
}

/** Commits of a page. Nobody else is served while one is taken apart, and a watcher that does not read holds one for nothing. */
export const pageCommits = 100;

interface Page {
  readonly shopId: string;
  readonly first: number;
  /** Of those who wait for it; undefined once it is being read. */
  signals: AbortSignal[] | undefined;
  readonly entries: Promise<readonly LogEntry[]>;
  read(): Promise<void>;
}

/** Creates the past of all shops of a database. */
export function createPast(db: Kysely<Database>, options: PastOptions): Past {
  const { maxReads, keptMs = 1000, keptLength = 5_000_000 } = options;
  /** Those that are waited for, and those that are kept. */
  const pages = new Map<string, Page>();
  /** Those that are kept, the oldest first, and the characters of each. */
  const kept = new Map<Page, number>();
  let length = 0;
  /** Pages to be read, by shop, the next shop first. */
  const lines = new Map<string, Page[]>();
  let readCount = 0;

  const forget = (page: Page): void => {
    length -= kept.get(page) ?? 0;
    kept.delete(page);
    const key = keyOf(page);
    if (pages.get(key) === page) {
      pages.delete(key);
    }
  };

  const keep = (page: Page, entries: readonly LogEntry[]): void => {
    const ofPage = entries.reduce((sum, { call, events }) => sum + call.length + events.length, 0);
    kept.set(page, ofPage);
    length += ofPage;
    for (const oldest of kept.keys()) {
      if (length <= keptLength) {
        break;
      }
      forget(oldest);
    }
    setTimeout(() => forget(page), keptMs).unref();
  };

  const createPage = (shopId: string, first: number): Page => {
    const { promise: entries, resolve, reject } = Promise.withResolvers<readonly LogEntry[]>();
    const page: Page = {
      shopId,
      first,
      entries,
      signals: [],
      read: async () => {
        try {
          const isWanted = page.signals?.some(({ aborted }) => !aborted);
          page.signals = undefined;
          // With the one that the next page begins with; there is none at 0.
          const found = isWanted ? await readCommits(db, shopId, first, pageCommits + 1) : [];
          const entries = found.filter(({ position }) => position <= first + pageCommits);
          const isFull = entries.at(-1)?.position === first + pageCommits;
          if (isFull && pages.get(keyOf(page)) === page) {
            keep(page, entries);
          } else {
            forget(page);
          }
          resolve(entries);
        } catch (error) {
          forget(page);
          reject(error);
        }
      },
    };
    return page;
  };

  /** Reads as many as may be read at a time, from shop to shop in turn. */
  const readOn = (): void => {
    for (const [shopId, line] of lines) {
      if (readCount >= maxReads) {
        return;
      }
      const page = line.shift() as Page;
      // The shop goes behind the others.
      lines.delete(shopId);
      if (line.length > 0) {
        lines.set(shopId, line);
      }
      readCount += 1;
      void page.read().then(() => {
        readCount -= 1;
        readOn();
      });
    }
  };

  return {
    from: async (shopId, position, signal) => {
      const first = position - (position % pageCommits);
      const key = keyOf({ shopId, first });
      let page = pages.get(key);
      if (page === undefined) {
        page = createPage(shopId, first);
        pages.set(key, page);
        const line = lines.get(shopId) ?? [];
        line.push(page);
        lines.set(shopId, line);
      }
      page.signals?.push(signal);
      readOn();
      const entries = await page.entries;
      return entries.filter((entry) => entry.position >= position);
    },
    forget: () => {
      for (const page of pages.values()) {
        if (page.signals === undefined) {
          forget(page);
        }
      }
    },
  };
}

function keyOf({ shopId, first }: Pick<Page, "shopId" | "first">): string {
  return `${shopId} ${first}`;
}
