import { Redis } from "ioredis";
import { Client } from "pg";
import { expect } from "vitest";
import { contradictions, readPostgresState, readRedisState } from "./audit-queries.ts";
import { until } from "./until.ts";

/** Where a shop is looked at. */
export interface AuditOptions {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  /** Default: the shop `default`. */
  readonly shopId?: string;
}

/** A commit as a caller was told of it. */
export interface Acknowledged {
  readonly requestId: string;
  readonly position: bigint;
  readonly commitId: string;
}

/**
 * Fails unless Postgres holds a whole and consistent history of the shop and Redis the state it leads to. Waits until
 * what Redis has committed is in Postgres.
 */
export async function auditShop(options: AuditOptions, acknowledged: readonly Acknowledged[] = []): Promise<void> {
  const shopId = options.shopId ?? "default";
  const postgres = new Client({ connectionString: options.databaseUrl });
  const redis = new Redis(options.redisUrl);
  try {
    await postgres.connect();
    await settled(postgres, redis, shopId);
    for (const [promise, query] of Object.entries(contradictions)) {
      const { rows } = await postgres.query(query, [shopId]);
      expect(rows, promise).toEqual([]);
    }
    await expectAcknowledged(postgres, shopId, acknowledged);
    expect(await readRedisState(redis, shopId), "Redis says what Postgres says").toEqual(
      await readPostgresState(postgres, shopId),
    );
  } finally {
    redis.disconnect();
    await postgres.end();
  }
}

async function settled(postgres: Client, redis: Redis, shopId: string): Promise<void> {
  await until("what Redis committed is in Postgres", async () => {
    const [position, commitId] = await redis.hmget(`{${shopId}}:meta`, "position", "commit_id");
    const { rows } = await postgres.query("select head_position, head_commit_id from shops where shop_id = $1", [
      shopId,
    ]);
    return rows[0]?.head_position === position && rows[0]?.head_commit_id === commitId;
  });
}

/** Every acknowledged commit is in Postgres: at its position, with its id, for its request. */
async function expectAcknowledged(postgres: Client, shopId: string, commits: readonly Acknowledged[]): Promise<void> {
  const { rows } = await postgres.query(
    `select a.* from unnest($2::text[], $3::bigint[], $4::uuid[]) as a(request_id, position, commit_id)
     left join commits c on c.shop_id = $1 and c.position = a.position and c.commit_id = a.commit_id
       and c.request_id = a.request_id where c.position is null`,
    [
      shopId,
      commits.map(({ requestId }) => requestId),
      commits.map(({ position }) => position),
      commits.map(({ commitId }) => commitId),
    ],
  );
  expect(rows, "what was acknowledged is there").toEqual([]);
}
