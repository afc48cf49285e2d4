import type { Logger } from "pino";
import type { Alarm, Fenced } from "./fence.ts";
import type { ShopObserver } from "./shop-observer.ts";

/** How often a fence that lasts is logged again, in milliseconds. */
const alarmMs = 60_000;

/** What a fence needs. */
export interface ShopFenceOptions {
  readonly shopId: string;
  readonly observer: ShopObserver;
  readonly logger: Logger;
}

/** Whether a shop stands still because its stores disagree, and why. Nothing is skipped: it stops until an operator looked. */
export class ShopFence {
  readonly #options: ShopFenceOptions;
  #fenced: Fenced | undefined;
  #alarmedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: ShopFenceOptions) {
    this.#options = options;
  }

  /** Why this shop stands still until its stores agree again; undefined: it does not. */
  get alarm(): Alarm | undefined {
    return this.#fenced?.alarm;
  }

  /** Throws SHOP_FENCED when the shop stands still. */
  refuse(): void {
    if (this.#fenced !== undefined) {
      throw this.#fenced;
    }
  }

  /** Has the shop stand still. Logged when it begins, and once a minute while it lasts. */
  raise(fenced: Fenced): void {
    const known = this.#fenced;
    this.#fenced = fenced;
    const isKnown = known?.alarm === fenced.alarm && known.from === fenced.from;
    if (isKnown && performance.now() - this.#alarmedAtMs < alarmMs) {
      return;
    }
    this.#alarmedAtMs = performance.now();
    const { shopId, observer, logger } = this.#options;
    const { alarm, facts, message } = fenced;
    if (!isKnown) {
      observer.fenced(alarm);
    }
    logger.error({ alarm, shop: shopId, ...facts }, `the shop is fenced: ${message}`);
  }

  /** The shop was opened; a commit that Postgres does not take is out of the way only where the opening was told to be. */
  opened(isForced: boolean): void {
    if (isForced || this.alarm !== "poison_commit") {
      this.#fenced = undefined;
    }
  }

  /** A flush round ended: Postgres has everything up to a position, the log another; `isLogRead`: Redis gave its entries. */
  roundEnded(durablePosition: number, logPosition: number, isLogRead: boolean): void {
    const from = this.#fenced?.alarm === "poison_commit" ? this.#fenced.from : 0;
    const isReadable = isLogRead && this.alarm === "redis_refuses";
    if (isReadable || durablePosition >= from || logPosition < from) {
      this.#fenced = undefined;
    }
  }

  /**
   * Ends a fence whose commits are out of the way: Postgres has them, taken there by another process or by an opening of the
   * shop, or Redis lost them and nothing waits to be recorded. Nobody commits to a fenced shop, so no flush would tell.
   */
  end(durablePosition: number, nothingWaits: boolean): void {
    if (this.alarm === "redis_refuses") {
      return; // only who reads the log knows that it can be read
    }
    const isPoison = this.alarm === "poison_commit";
    if (nothingWaits || (isPoison && durablePosition >= (this.#fenced?.from ?? 0))) {
      this.#fenced = undefined;
    }
  }
}
