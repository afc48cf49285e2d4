import type { CommitRecord } from "../../history/history.ts";
import { pause } from "./call-until-known.ts";
import { Consumer } from "./consumer.ts";
import type { OpenDoors } from "./open-servers.ts";
import { Random } from "./random.ts";
import { type Filter, Watcher } from "./watcher.ts";

const everything: Filter = { eventTypes: [], subjects: [] };

/** What watchers ask for, in turn. The first asks for everything: it is who knows the subjects of an event. */
const filters: readonly Filter[] = [
  everything,
  everything,
  { eventTypes: ["order_placed", "stock_adjusted", "hold_expired"], subjects: [] },
  { eventTypes: [], subjects: ["sku:s0", "user:u1"] },
];

/** How long watchers may take to catch up once everything is well, in milliseconds. */
const catchUpMs = 30_000;

export interface AudienceOptions {
  readonly seed: number;
  readonly shopId: string;
  readonly watcherCount: number;
  readonly consumerCount: number;
  readonly servers: readonly OpenDoors[];
}

/** Everybody who follows the log of a shop. */
export class Audience {
  readonly #watchers: readonly Watcher[];
  readonly #consumers: readonly Consumer[];
  readonly #end = new AbortController();
  readonly #runs: readonly Promise<void>[];

  constructor({ seed, shopId, watcherCount, consumerCount, servers }: AudienceOptions) {
    const filterOf = (index: number): Filter => filters[index % filters.length] ?? everything;
    this.#watchers = Array.from({ length: watcherCount }, (_, index) => new Watcher(`w${index}`, filterOf(index)));
    this.#consumers = Array.from({ length: consumerCount }, (_, index) => new Consumer(`c${index}`));
    this.#runs = [...this.#watchers, ...this.#consumers].map((each, index) =>
      each.run(servers, shopId, new Random(seed * 2003 + index), this.#end.signal),
    );
  }

  /** What anybody was sent that contradicts the commits, in words; waits until they have caught up with them. */
  async check(commits: readonly CommitRecord[]): Promise<readonly string[]> {
    const everybody = [...this.#watchers, ...this.#consumers];
    const endsAt = performance.now() + catchUpMs;
    const isBehind = (): boolean => everybody.some(({ position }) => position < commits.length);
    while (isBehind() && performance.now() < endsAt) await pause(20);
    const [first] = this.#watchers;
    const subjectsOf = (position: number): readonly (readonly string[])[] =>
      (first?.sent.get(position)?.wire ?? []).map(({ subjects = [] }) => subjects as readonly string[]);
    return [
      ...everybody.flatMap(({ contradictions }) => contradictions),
      ...this.#watchers.flatMap((watcher) => watcher.compare(commits, subjectsOf)),
      ...this.#consumers.flatMap((consumer) => consumer.compare(commits)),
    ];
  }

  async close(): Promise<void> {
    this.#end.abort();
    await Promise.all(this.#runs);
  }
}
