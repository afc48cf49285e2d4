import type { PageTokens } from "../postgres/page-token.ts";
import type { CallContext } from "../server/call-context.ts";

/** The pages of all lists. */
export interface Pages {
  /** The page that a request asks for. `scope` is what must not change between the pages of a list: the shop, and filters. */
  of(
    req: { readonly pageSize: number; readonly pageToken: string },
    ctx: CallContext,
    ...scope: readonly string[]
  ): Page;
}

/** One page of a list: what is read for it, and what of that it shows. */
export interface Page {
  /** The key of the last row before it; empty: it is the first. */
  readonly after: string;
  /** The same where the newest rows come first, and positions are their keys; undefined: it is the first. */
  readonly before: number | undefined;
  /** One row more than it shows: whether there is one tells whether another page follows. */
  readonly readCount: number;
  /**
   * Of the rows that were read, those it shows, and the token of the next page. It shows fewer than were asked for where more would
   * not go into one answer, but one at least.
   */
  show<Row extends object>(
    rows: readonly Row[],
    keyOf: (row: Row) => string | number,
  ): { readonly shown: readonly Row[]; readonly nextPageToken: string };
}

const defaultSize = 50;
const largestSize = 1000;

/** Creates them; `answerBytes` is the largest answer. */
export function createPages(tokens: PageTokens, answerBytes: number): Pages {
  return {
    of: ({ pageSize, pageToken }, ctx, ...scope) => {
      const list = [ctx.method.name, ...scope].join("\n");
      const count = sizeOf(pageSize);
      const after = tokens.read(list, pageToken);
      return {
        after,
        before: after === "" ? undefined : Number(after),
        readCount: count + 1,
        show: (rows, keyOf) => {
          const shown = fitting(rows.slice(0, count), answerBytes);
          const last = shown.at(-1);
          const hasNext = rows.length > shown.length && last !== undefined;
          return { shown, nextPageToken: hasNext ? tokens.make(list, String(keyOf(last))) : "" };
        },
      };
    },
  };
}

/** Rows on a page: 0 = 50, at most 1,000. */
export function sizeOf(pageSize: number): number {
  return pageSize === 0 ? defaultSize : Math.min(pageSize, largestSize);
}

/** The first rows, no more than go into an answer: the JSON of a row is more than half of what is sent of it, on either door. */
function fitting<Row extends object>(rows: readonly Row[], answerBytes: number): readonly Row[] {
  let left = answerBytes / 2;
  const tooMany = rows.findIndex((row, index) => {
    left -= Buffer.byteLength(JSON.stringify(row));
    return left < 0 && index > 0;
  });
  return tooMany === -1 ? rows : rows.slice(0, tooMany);
}
