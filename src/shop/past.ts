import type { Kysely } from "kysely";
import { readCommits } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import type { LogEntry } from "./log-entry.ts";

/**
 * What Postgres has of the shops' logs, for all watchers of a process that are behind what their hub holds. It is read in pages that
 * begin at multiples of their size, so that watchers who are about as far share them: those that come back after a restart, or all that
 * begin at the beginning, cost little more than one.
 *
 * Invariants: a page that is handed out twice was full, so nothing could be missing from it; nobody waits for all the pages of another shop.
 */
export interface Past {
  /**
   * The commits from a position (inclusive) to the end of its page, in order. Empty: Postgres has none, or `signal`, which tells
   * that nobody wants them any more, was heard before they were read.
   */
  from(shopId: string, position: number, signal: AbortSignal): Promise<readonly LogEntry[]>;
}

/** Commits of a page. Nobody else is served while one is taken apart, and a watcher that does not read holds one for nothing. */
export const pageCommits = 100;
/** Pages that are read at a time; the others wait. */
const maxReads = 4;
/** Pages that are kept for those who come after: some 10 MB. */
const keptPages = 32;
/** How long they are kept, in milliseconds. */
const keptMs = 1000;

interface Page {
  readonly shopId: string;
  readonly first: number;
  /** Of those who wait for it. */
  readonly signals: AbortSignal[];
  readonly entries: Promise<readonly LogEntry[]>;
  read(): Promise<void>;
}

/** Creates the past of all shops of a database. */
export function createPast(db: Kysely<Database>): Past {
  /** Those that are waited for, and those that are kept, the oldest first. */
  const pages = new Map<string, Page>();
  const kept: Page[] = [];
  /** Pages to be read, by shop, the next shop first. */
  const lines = new Map<string, Page[]>();
  let readCount = 0;

  const forget = (page: Page): void => {
    const key = keyOf(page);
    if (pages.get(key) === page) {
      pages.delete(key);
    }
  };

  const keep = (page: Page): void => {
    kept.push(page);
    if (kept.length > keptPages) {
      forget(kept.shift() as Page);
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
          const isWanted = page.signals.some(({ aborted }) => !aborted);
          // With the one that the next page begins with; there is none at 0.
          const found = isWanted ? await readCommits(db, shopId, first, pageCommits + 1) : [];
          const entries = found.filter(({ position }) => position <= first + pageCommits);
          const isFull = entries.at(-1)?.position === first + pageCommits;
          (isFull ? keep : forget)(page);
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
      page.signals.push(signal);
      readOn();
      const entries = await page.entries;
      return entries.filter((entry) => entry.position >= position);
    },
  };
}

function keyOf({ shopId, first }: Pick<Page, "shopId" | "first">): string {
  return `${shopId} ${first}`;
}
