import { ConnectError } from "@connectrpc/connect";
import type { CommitRecord } from "../../history/history.ts";
import { pause } from "./call-until-known.ts";
import type { OpenDoors } from "./open-servers.ts";
import type { Random } from "./random.ts";
import { type Said, watchFor, whyEnded } from "./stream.ts";

/** How long an acknowledgement may take, in milliseconds. */
const ackTimeoutMs = 2000;

/**
 * A consumer with a name: it acknowledges what it was sent, loses its stream, and takes its own streams over on other
 * servers. Every stream must begin after something that it acknowledged once (after the start, if Postgres lost the
 * acknowledgements), and go on without a gap.
 */
export class Consumer {
  readonly name: string;
  /** Commit ids of what it was sent, by position. */
  readonly sent = new Map<number, string>();
  readonly contradictions: string[] = [];
  /** Positions it ever asked to acknowledge. */
  readonly #asked = new Set<number>([0]);
  #position = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** The newest position it was sent. */
  get position(): number {
    return this.#position;
  }

  async run(servers: readonly OpenDoors[], shopId: string, random: Random, end: AbortSignal): Promise<void> {
    let older: Promise<void> = Promise.resolve();
    while (!end.aborted) {
      const stream = this.#consume(servers, shopId, random, end);
      await older;
      // The next stream begins while this one is there, or when it is over.
      if (random.chance(40)) await Promise.race([stream, pause(random.between(50, 500))]);
      else await stream;
      older = stream;
      await pause(random.between(0, 100));
    }
    await older;
  }

  async #consume(servers: readonly OpenDoors[], shopId: string, random: Random, end: AbortSignal): Promise<void> {
    const consumer = this.name;
    const acks: Promise<void>[] = [];
    let last: number | undefined;
    const request = {
      shopId,
      start: { case: "consumer", value: consumer } as const,
      bookmarkInterval: { seconds: 0n, nanos: 500_000_000 },
      maxCommitsPerMessage: random.from([1, 20]),
    };
    const why = await watchFor(random.from(servers), request, random, end, (said) => {
      const before = last;
      last = this.#hear(said, last);
      if (last !== before && last !== undefined && random.chance(10))
        acks.push(this.#acknowledge(random.from(servers), shopId, last, random));
    });
    if (why !== "cut" && why !== "CONSUMER_TAKEN") this.#complain(`its stream ended with ${why}`);
    if (last !== undefined && random.chance(50))
      acks.push(this.#acknowledge(random.from(servers), shopId, last, random));
    await Promise.all(acks);
  }

  #hear(said: Said, last: number | undefined): number | undefined {
    if (said.kind !== "commits") {
      const { position } = said.place;
      if (position !== last && !(last === undefined && this.#asked.has(position)))
        this.#complain(`a bookmark at ${position} came after ${last ?? "nothing"}`);
      return position;
    }
    let before = last;
    for (const { position, commitId } of said.commits) {
      const isNext = before === undefined ? this.#asked.has(position - 1) : position === before + 1;
      if (!isNext) this.#complain(`it was sent ${position} after ${before ?? "it had acknowledged something else"}`);
      const known = this.sent.get(position) ?? commitId;
      if (known !== commitId) this.#complain(`position ${position} was ${known}, and is ${commitId} now`);
      this.sent.set(position, commitId);
      this.#position = Math.max(this.#position, position);
      before = position;
    }
    return before;
  }

  /** Asks once: an acknowledgement that is lost is made by a later one. */
  async #acknowledge(server: OpenDoors, shopId: string, position: number, random: Random): Promise<void> {
    this.#asked.add(position);
    const { events } = server[random.chance(50) ? "grpc" : "http"];
    const request = { shopId, consumer: this.name, position: BigInt(position) };
    try {
      const answer = await events.ackEvents(request, { timeoutMs: ackTimeoutMs });
      const reached = Number(answer.position);
      if (reached < position || !this.#asked.has(reached))
        this.#complain(`its acknowledgement of ${position} was answered with ${reached}`);
    } catch (error) {
      const why = whyEnded(ConnectError.from(error));
      // A Postgres that was put back is behind what was sent until it is healed.
      if (why !== "cut" && why !== "POSITION_AHEAD") this.#complain(`its acknowledgement ended with ${why}`);
    }
  }

  #complain(what: string): void {
    this.contradictions.push(`consumer ${this.name}: ${what}`);
  }

  /** Compares what it was sent with the commits. */
  compare(commits: readonly CommitRecord[]): string[] {
    const found = commits.flatMap(({ position, commitId }) => {
      const sent = this.sent.get(position);
      if (sent === undefined) return [`commit ${position} was not sent`];
      return sent === commitId ? [] : [`commit ${position} was sent as ${sent}`];
    });
    return found.map((what) => `consumer ${this.name}: ${what}`);
  }
}
