import { asWatched } from "../../history/commit.ts";
import type { CommitRecord } from "../../history/history.ts";
import { differences, type Plain } from "../../model/plain.ts";
import type { WatchedCommit } from "../../model/watched-log.ts";
import { pause } from "./call-until-known.ts";
import type { OpenDoors } from "./open-servers.ts";
import type { Random } from "./random.ts";
import { type Place, type Said, watchFor } from "./stream.ts";

/** Which events a watcher asks for; both empty = all. */
export interface Filter {
  readonly eventTypes: readonly string[];
  readonly subjects: readonly string[];
}

const start: Place = { position: 0, commitId: "" };

/**
 * A watcher that cuts its stream now and then, and goes on after the last thing it was sent, on any server and door.
 * While it is sent commits it notes what cannot be right: a gap, a commit twice, a commit that is another one now, a
 * bookmark at another place than that which was sent last.
 */
export class Watcher {
  readonly name: string;
  readonly filter: Filter;
  /** What it was sent, by position. */
  readonly sent = new Map<number, WatchedCommit>();
  /** What cannot be right, in words. */
  readonly contradictions: string[] = [];
  /** Commits that bookmarks named, by position. */
  readonly #marks = new Map<number, string>();
  #last: Place = start;

  constructor(name: string, filter: Filter) {
    this.name = name;
    this.filter = filter;
  }

  /** Everything up to here was sent, or filtered. */
  get position(): number {
    return this.#last.position;
  }

  /** Watches until the end. */
  async run(servers: readonly OpenDoors[], shopId: string, random: Random, end: AbortSignal): Promise<void> {
    while (!end.aborted) {
      const from = this.#chooseStart(random);
      let last = from;
      const request = {
        shopId,
        ...(from.position > 0 && { start: { case: "afterPosition", value: BigInt(from.position) } as const }),
        ...(random.chance(80) && { afterCommitId: from.commitId }),
        eventTypes: [...this.filter.eventTypes],
        subjects: [...this.filter.subjects],
        bookmarkInterval: { seconds: 0n, nanos: random.from([100, 300, 900]) * 1_000_000 },
        maxCommitsPerMessage: random.from([0, 1, 3, 50]),
      };
      const why = await watchFor(random.from(servers), request, random, end, (said) => {
        last = this.#hear(said, last);
      });
      if (why !== "cut") this.#complain(`its stream after ${from.position} ended with ${why}`);
      await pause(random.between(0, why === "cut" ? 200 : 1000));
    }
  }

  /** Mostly where it was; an unfiltered watcher looks again at what it was sent before, now and then. */
  #chooseStart(random: Random): Place {
    if (this.#isFiltered || this.position < 2 || random.chance(80)) return this.#last;
    const position = 1 + random.below(this.position);
    const commit = this.sent.get(position);
    return commit === undefined ? start : { position, commitId: commit.commitId };
  }

  get #isFiltered(): boolean {
    return this.filter.eventTypes.length + this.filter.subjects.length > 0;
  }

  #hear(said: Said, last: Place): Place {
    const place = said.kind === "commits" ? this.#hearCommits(said.commits, last) : said.place;
    if (said.kind !== "commits") this.#hearMark(said.place, last);
    if (place.position > this.position) this.#last = place;
    return place;
  }

  #hearCommits(commits: readonly WatchedCommit[], last: Place): Place {
    let before = last.position;
    for (const commit of commits) {
      const { position, commitId } = commit;
      const isNext = this.#isFiltered ? position > before : position === before + 1;
      if (!isNext) this.#complain(`it was sent ${position} after ${before}`);
      before = position;
      const known = this.sent.get(position);
      if (known === undefined) this.sent.set(position, commit);
      else if (this.#isFiltered) this.#complain(`it was sent ${position} twice`);
      else if (known.commitId !== commitId || differences(known, commit).length > 0)
        this.#complain(`position ${position} was ${known.commitId}, and is ${commitId} now`);
    }
    const newest = commits.at(-1);
    return newest === undefined ? last : { position: newest.position, commitId: newest.commitId };
  }

  #hearMark(place: Place, last: Place): void {
    const { position, commitId } = place;
    if (this.#isFiltered ? position < last.position : position !== last.position)
      this.#complain(`a bookmark at ${position} came after ${last.position}`);
    const known = this.#marks.get(position) ?? commitId;
    if (known !== commitId) this.#complain(`bookmarks at ${position} name ${known} and ${commitId}`);
    this.#marks.set(position, commitId);
  }

  #complain(what: string): void {
    this.contradictions.push(`watcher ${this.name}: ${what}`);
  }

  /** Compares what it was sent with the commits; `subjectsOf`: those of the events of a commit, in order. */
  compare(
    commits: readonly CommitRecord[],
    subjectsOf: (position: number) => readonly (readonly string[])[],
  ): string[] {
    const found: string[] = [];
    const head = commits.length;
    for (const commit of commits) {
      const sent = this.sent.get(commit.position);
      const wanted = this.#select(asWatched(commit), subjectsOf(commit.position));
      if (commit.position <= this.position && wanted !== undefined && sent === undefined)
        found.push(`commit ${commit.position} was not sent`);
      else if (sent !== undefined && wanted === undefined) found.push(`commit ${commit.position} passes no filter`);
      else if (sent !== undefined && wanted !== undefined) {
        const paths = differences(wanted, withoutSubjects(sent));
        if (paths.length > 0) found.push(`commit ${commit.position} was sent with another ${paths.join(", ")}`);
      }
      const mark = this.#marks.get(commit.position) ?? commit.commitId;
      if (mark !== commit.commitId) found.push(`a bookmark at ${commit.position} names ${mark}`);
    }
    if (this.position < head) found.push(`it was sent nothing after ${this.position}; the newest commit is ${head}`);
    return found.map((what) => `watcher ${this.name}: ${what}`);
  }

  /** What of a commit it must be sent; undefined = nothing. */
  #select(commit: WatchedCommit, subjects: readonly (readonly string[])[]): WatchedCommit | undefined {
    if (!this.#isFiltered) return commit;
    const { eventTypes, subjects: wanted } = this.filter;
    const passes = (_: unknown, index: number): boolean =>
      (eventTypes.length === 0 || eventTypes.includes(commit.events[index]?.[0] as string)) &&
      (wanted.length === 0 || (subjects[index] ?? []).some((subject) => wanted.includes(subject)));
    const wire = commit.wire.filter(passes);
    return wire.length === 0 ? undefined : { ...commit, wire, events: commit.events.filter(passes) };
  }
}

function withoutSubjects(commit: WatchedCommit): WatchedCommit {
  return { ...commit, wire: commit.wire.map(({ subjects: _, ...event }: Plain) => event) };
}
