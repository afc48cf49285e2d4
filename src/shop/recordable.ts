import { isDataError } from "../postgres/errors.ts";
import { poisonCommit } from "./fence.ts";
import type { LogEntry } from "./log-entry.ts";
import { type Projection, project } from "./projection.ts";

/** An entry of the log whose JSON cannot be read: no repeat mends it. */
class UnreadableCommit extends Error {}

/**
 * Has as many commits recorded as can be, from the first on: what Postgres refuses because of what it holds is tried in
 * halves, until it is known which commit it is. Returns how many are recorded, 0 when `append` says that somebody else was
 * first; throws Fenced when the very first cannot be recorded. `append` must leave nothing behind when it fails.
 */
export async function appendRecordable(
  entries: readonly LogEntry[],
  append: (entries: readonly LogEntry[]) => Promise<boolean>,
): Promise<number> {
  for (let count = entries.length; ; count = Math.floor(count / 2)) {
    try {
      return (await append(entries.slice(0, count))) ? count : 0;
    } catch (error) {
      if (!isDataError(error) && !(error instanceof UnreadableCommit)) {
        throw error;
      }
      if (count === 1) {
        throw poisonCommit(entries[0] as LogEntry, error);
      }
    }
  }
}

/** The rows of some commits; what it throws says that one of them cannot be recorded. */
export function projectReadable(
  entries: readonly LogEntry[],
  eventsOf?: (commitId: string) => readonly object[] | undefined,
): Projection {
  try {
    return project(entries, eventsOf);
  } catch (error) {
    throw new UnreadableCommit(`a commit cannot be read: ${error instanceof Error ? error.message : ""}`, {
      cause: error,
    });
  }
}
