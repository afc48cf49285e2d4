import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { auditShop } from "../helpers/audit.ts";
import { spawnHoldfast } from "../helpers/holdfast.ts";
import { uniqueId } from "../helpers/shop.ts";
import type { Trap } from "./set-trap.ts";
import { type Stage, setTrapModule } from "./stage.ts";

const seededCount = 7;

/** Kills the very first server on empty stores while it starts; the next two must start, and find everything there once. */
export async function crashFirstStart(stage: Stage, folder: string, trap: Trap): Promise<void> {
  const name = uniqueId("first").replace("-", "_");
  await stage.postgres.query(`create database ${name}`);
  await stage.redis.function("FLUSH");
  const urls = await emptyStores(stage, name);
  const seedFile = join(folder, "seed.json");
  const product = { sku: "seeded", title: "Seeded", price_minor: 100, quantity: seededCount };
  await writeFile(seedFile, JSON.stringify({ products: [product] }));
  const settings = { HOLDFAST_SEED_FILE: seedFile };
  const start = (more: Readonly<Record<string, string>> = {}) =>
    spawnHoldfast({ ...urls, settings: { ...settings, ...more }, preloads: [setTrapModule] });
  const victim = await start({ CRASH_TRAP: JSON.stringify(trap) }).catch((error: Error) => error);
  if (!(victim instanceof Error)) {
    await victim.kill();
    throw new Error(`"${trap.point}" was not reached in a first start`);
  }
  const servers = await Promise.all([start(), start()]);
  try {
    for (const { grpc } of servers) {
      const { stock } = await grpc.inventory.getStock({ sku: "seeded" });
      if (stock?.availableCount !== BigInt(seededCount)) throw new Error(`seeded ${stock?.availableCount} units`);
    }
    await auditShop({ ...urls, shopId: "default" });
  } finally {
    await Promise.all(servers.map((each) => each.kill()));
    await stage.postgres.query(`drop database ${name} with (force)`);
  }
}

/** A database and a keyspace that nobody has used. */
async function emptyStores({ urls, redis }: Stage, database: string) {
  const databaseUrl = new URL(urls.databaseUrl);
  databaseUrl.pathname = `/${database}`;
  const redisUrl = new URL(urls.redisUrl);
  redisUrl.pathname = "/1";
  await redis.select(1);
  await redis.flushdb().finally(() => redis.select(0));
  return { databaseUrl: databaseUrl.href, redisUrl: redisUrl.href };
}
