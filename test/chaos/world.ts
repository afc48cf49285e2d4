import type { Redis } from "ioredis";
import type { FakeStripe } from "../helpers/fake-stripe.ts";
import type { PostgresNode } from "./postgres-node.ts";
import type { ServerSlot } from "./server-slot.ts";

/** Everything that a run breaks: servers, the networks between them and their stores, the stores, a payment gateway. */
export interface World {
  readonly servers: readonly ServerSlot[];
  readonly postgres: PostgresNode;
  readonly stripe: FakeStripe;
  /** Works on the Redis that holds a shop, past all proxies. */
  useRedis<Value>(shopId: string, work: (client: Redis) => Promise<Value>): Promise<Value>;
  /** Everything as it should be: all run, all networks are whole, replicas have what their masters have. */
  mend(): Promise<void>;
  /** A fresh database and an empty Redis, and servers on them. */
  renew(): Promise<void>;
  /** Tells the servers' networks where PostgreSQL is after it was started anew. */
  pointToPostgres(): void;
  close(): Promise<void>;
}
