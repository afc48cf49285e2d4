import type { PageTokens } from "../postgres/page-token.ts";
import type { CallContext } from "../server/call-context.ts";

/** One page of a list: what is read for it, and what of that it shows. */
export interface Page {
  /** The key of the last row before it; empty: it is the first. */
  readonly after: string;
  /** The same where the newest rows come first, and positions are their keys; undefined: it is the first. */
  readonly before: number | undefined;
  /** One row more than it shows: whether there is one tells whether another page follows. */
  readonly readCount: number;
  /** The rows it shows, of those that were read, and the token of the next page. */
  show<Row>(
    rows: readonly Row[],
    keyOf: (row: Row) => string | number,
  ): { readonly shown: readonly Row[]; readonly nextPageToken: string };
}

const defaultSize = 50;
const largestSize = 1000;

/** The page that a list's request asks for. `scope` is what must not change between its pages: the shop, and filters. */
export function pageOf(
  pageTokens: PageTokens,
  { pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
  ctx: CallContext,
  ...scope: readonly string[]
): Page {
  const list = [ctx.method.name, ...scope].join("\n");
  const count = sizeOf(pageSize);
  const after = pageTokens.read(list, pageToken);
  return {
    after,
    before: after === "" ? undefined : Number(after),
    readCount: count + 1,
    show: (rows, keyOf) => {
      const shown = rows.slice(0, count);
      const last = shown.at(-1);
      const hasNext = rows.length > count && last !== undefined;
      return { shown, nextPageToken: hasNext ? pageTokens.make(list, String(keyOf(last))) : "" };
    },
  };
}

/** Rows on a page: 0 = 50, at most 1,000. */
export function sizeOf(pageSize: number): number {
  return pageSize === 0 ? defaultSize : Math.min(pageSize, largestSize);
}
