import { readCommits } from "../postgres/commits.ts";
import { type LogEntry, parseEntry } from "../shop/log-entry.ts";
import type { Looks } from "./looks.ts";
import type { Run } from "./run.ts";

/** The entries that are still in Redis are the commits of Postgres, word for word: replays are answered from them. */
export async function compareLogEntries(run: Run, looks: Looks): Promise<void> {
  let next: number | undefined;
  for await (const { payload } of looks.entries()) {
    const [first, last] = [payload[0], payload.at(-1)].map((entry) => Number.parseInt(entry?.[0] ?? "0", 10));
    const stored = await readCommits(run.db, run.model.shopId, first ?? 0, (last ?? 0) - (first ?? 0) + 1);
    const commits = new Map(stored.map((entry) => [entry.position, entry]));
    for (const [id, fields] of payload) {
      const { private: _, ...found } = readEntry(id, fields);
      const { private: __, ...expected } = commits.get(found.position) ?? { private: "" };
      const subject = `commit:${found.position}`;
      const about = { kind: "LOG_ENTRY", subject, position: found.position, store: "REDIS" } as const;
      for (let gone = next ?? found.position; gone < found.position; gone += 1) {
        run.report({ ...about, subject: `commit:${gone}`, position: gone, expected: `position=${gone}`, found: "" });
      }
      next = found.position + 1;
      if ("commitId" in expected) {
        run.compare(about, expected, found);
      } else {
        run.report({ ...about, expected: "", found: `commitId=${found.commitId}` });
      }
    }
  }
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
