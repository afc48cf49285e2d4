/** What one call wants to buy or hold: `quantities[i]` units of `skus[i]`, each SKU once, sorted. */
export interface Purchase {
  /** New for every call. */
  readonly orderId: string;
  /** The caller's; a new one when the caller gave none. */
  readonly requestId: string;
  /** Whose wallet pays; null when nobody pays. */
  readonly userId: string | null;
  readonly skus: readonly string[];
  readonly quantities: readonly number[];
  /** What a hold is to be called, or which one is to be bought (then there are no lines). */
  readonly holdId: string;
}

/** `refused`: there is not enough. `busy`: gave up after its retries; the caller may try again. */
export type Outcome = "done" | "refused" | "busy";

/** A way to sell. Each method commits or changes nothing. */
export interface Rival {
  buy(purchase: Purchase): Promise<Outcome>;
  hold?(purchase: Purchase): Promise<Outcome>;
  buyHeld?(purchase: Purchase): Promise<Outcome>;
  /** Ends its connections. */
  close(): Promise<void>;
}

/** Where a rival keeps its data. */
export interface RivalOptions {
  readonly databaseUrl: string;
  /** Its own tables. */
  readonly schema: string;
  /** A Redis that no other rival uses at the same time. */
  readonly redisUrl: string;
  /** Connections: to PostgreSQL, or to Redis for one that needs several. */
  readonly poolSize: number;
}

/** Opens all connections, so that no call waits for one. */
export type CreateRival = (options: RivalOptions) => Promise<Rival>;
