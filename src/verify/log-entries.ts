import { readCommits } from "../postgres/commits.ts";
import { type LogEntry, parseEntry } from "../shop/log-entry.ts";
import type { Looks } from "./looks.ts";
import type { Run } from "./run.ts";

/**
 * The entries that are still in Redis are the commits of Postgres, word for word: replays are answered from them. A page begins
 * with the last entry of the page before it; where it does not, flushes have trimmed the log beyond that in between, and what
 * is between the two pages is gone as it has to be.
 */
export async function compareLogEntries(run: Run, looks: Pick<Looks, "entries">): Promise<void> {
  let last: number | undefined;
  for await (const { payload } of looks.entries()) {
    const begin = positionOf(payload[0]);
    const isContinued = last !== undefined && begin === last;
    const entries = isContinued ? payload.slice(1) : payload;
    const end = positionOf(payload.at(-1));
    const stored = await readCommits(run.db, run.model.shopId, begin, end - begin + 1);
    const commits = new Map(stored.map((entry) => [entry.position, entry]));
    let next = isContinued ? begin + 1 : begin;
    for (const [id, fields] of entries) {
      const { private: _, ...found } = readEntry(id, fields);
      const { private: __, ...expected } = commits.get(found.position) ?? { private: "" };
      const subject = `commit:${found.position}`;
      const about = { kind: "LOG_ENTRY", subject, position: found.position, store: "REDIS" } as const;
      for (let gone = next; gone < found.position; gone += 1) {
        run.report({ ...about, subject: `commit:${gone}`, position: gone, expected: `position=${gone}`, found: "" });
      }
      next = found.position + 1;
      if ("commitId" in expected) {
        run.compare(about, expected, found);
      } else {
        run.report({ ...about, expected: "", found: `commitId=${found.commitId}` });
      }
    }
    last = end;
  }
}

function positionOf(entry: readonly [string, ...unknown[]] | undefined): number {
  return Number.parseInt(entry?.[0] ?? "0", 10);
}

/** An entry of the log; one that cannot be read as one differs in everything. */
function readEntry(id: string, fields: readonly string[]): LogEntry {
  try {
    return parseEntry(id, fields);
  } catch {
    const position = Number.parseInt(id, 10);
    return { position, commitId: "", epoch: 0, timeMs: 0, call: "", events: fields.join(" "), private: "" };
  }
}
