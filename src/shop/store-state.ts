import type { Logger } from "pino";

/**
 * Whether a store answers, as this process saw it last. Whoever sees it says so here, and an outage is logged here and
 * nowhere else: when it begins, once a minute while it lasts, and when it is over.
 */
export interface StoreState {
  readonly isUp: boolean;
  /** The store answered. */
  answered(): void;
  /** The store did not answer. */
  failed(error: unknown): void;
}

/** What a state needs. */
export interface StoreStateOptions {
  readonly store: "Redis" | "Postgres";
  /** Called when the store went away or came back. */
  readonly onChange: () => void;
  readonly logger: Logger;
  /** The time, in milliseconds since the epoch. Default: this machine's. */
  readonly now?: () => number;
}

/** How often an outage that lasts is logged again, in milliseconds. */
const reminderMs = 60_000;
/** A store that was back for less than this has not been back: what comes and goes is logged once a minute, too. */
const steadyMs = 5000;

/** A store that answers, until somebody says otherwise. */
export function createStoreState({ store, onChange, logger, now = Date.now }: StoreStateOptions): StoreState {
  let isUp = true;
  let isTold = false;
  let toldAtMs = Number.NEGATIVE_INFINITY;
  let backAtMs = Number.NEGATIVE_INFINITY;
  return {
    get isUp() {
      return isUp;
    },
    answered: () => {
      if (isUp) {
        return;
      }
      isUp = true;
      backAtMs = now();
      if (isTold) {
        isTold = false;
        logger.info({ store }, `${store} is back`);
      }
      onChange();
    },
    failed: (error) => {
      const isNew = isUp && now() - backAtMs >= steadyMs;
      if (isNew || now() - toldAtMs >= reminderMs) {
        isTold = true;
        toldAtMs = now();
        logger.warn({ store, reason: reasonOf(error) }, `${store} is away: not ready until it is back`);
      }
      if (isUp) {
        isUp = false;
        onChange();
      }
    },
  };
}

/** In words, without a stack; what failed for several addresses at once has a code only. */
function reasonOf(error: unknown): string {
  const { message, code } = error as { message?: unknown; code?: unknown };
  return String(message || code || error);
}
