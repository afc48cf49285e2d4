import type { StockJson } from "./event-json.ts";
import type { Alarm } from "./fence.ts";
import type { LogEntry } from "./log-entry.ts";

/**
 * What an opening did. `kept`: Redis had everything. `caught up`: what Redis had lost at the end was reloaded. `rebuilt`: all
 * of it was loaded from Postgres. `first opened`: the same, for a shop that nobody had used before.
 */
export type Opening = "kept" | "caught up" | "rebuilt" | "first opened";

/** Is told what shops do. It is in the way of every call: it must be quick and never throw. */
export interface ShopObserver {
  /** A script of a call was answered by Redis after so many milliseconds. */
  readonly scriptRan: (name: string, ms: number) => void;
  /** Commits of a shop were recorded, with these stock levels after them; the statement took so many milliseconds. */
  readonly flushed: (entries: readonly LogEntry[], levels: Iterable<StockJson>, ms: number) => void;
  /** A shop was opened, which took so many milliseconds. */
  readonly opened: (opening: Opening, ms: number) => void;
  /** A shop was fenced, for a reason or at a position that it was not fenced for before. */
  readonly fenced: (alarm: Alarm) => void;
  /** A store was asked whether it is there, and said yes after so many milliseconds. */
  readonly storeAnswered: (store: "Redis" | "Postgres", ms: number) => void;
}

/** Takes no notice. */
export const silentShopObserver: ShopObserver = {
  scriptRan: () => {},
  flushed: () => {},
  opened: () => {},
  fenced: () => {},
  storeAnswered: () => {},
};
