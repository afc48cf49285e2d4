import { setTimeout as pause } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Redis } from "ioredis";
import { Store } from "../../gen/holdfast/v1/admin_service_pb.js";
import { openDoors } from "../helpers/holdfast.ts";
import { type RedisState, readRedisState } from "../helpers/redis-state.ts";
import type { ServerAddress } from "./callers/open-servers.ts";
import type { Random } from "./callers/random.ts";
import { write } from "./check-shop.ts";

/** A shop that the harness's own checks found right, and whom to ask about it. */
export interface Finished {
  readonly shopId: string;
  readonly server: ServerAddress;
  readonly redis: Redis;
  readonly random: Random;
}

/**
 * What VerifyShop and RebuildShop get wrong: VerifyShop must find nothing in a right shop; must name what the harness
 * spoils in it by hand; and RebuildShop must bring back all that Redis held before, and nothing else.
 */
export async function checkVerification({ shopId, server, redis, random }: Finished): Promise<readonly string[]> {
  const doors = openDoors(server.grpc, server.http);
  const verify = async (): Promise<readonly string[]> => {
    const found: string[] = [];
    await whenAvailable(async () => {
      found.length = 0;
      for await (const { discrepancies } of doors.grpc.admin.verifyShop({ shopId })) {
        found.push(
          ...discrepancies.map(
            (each) => `${Store[each.store]}: ${each.found}, not ${each.expected}: ${each.kind} ${each.subject}`,
          ),
        );
      }
    });
    return found;
  };
  try {
    const falseAlarms = await verify();
    if (falseAlarms.length > 0) return [`VerifyShop finds what the harness does not: ${write(falseAlarms)}`];
    const firstPosition = await redis.hget(`{${shopId}}:meta`, "position");
    const before = await readRedisState(redis, shopId);
    const subject = await spoil(redis, shopId, random);
    const named = await verify();
    await whenAvailable(async () => {
      for await (const _ of doors.grpc.admin.rebuildShop({ shopId })) {
        // it tells how far it is
      }
    });
    const after = await readRedisState(redis, shopId);
    return [
      ...(named.some((each) => each.endsWith(` ${subject}`))
        ? []
        : [`VerifyShop finds ${write(named)}, not ${subject}`]),
      // What became due meanwhile changes the state, rightly.
      ...(firstPosition === after.last[0] ? differences(before, after) : []),
    ];
  } finally {
    doors.close();
  }
}

/** Changes one level or wallet by hand; returns whose. */
async function spoil(redis: Redis, shopId: string, random: Random): Promise<string> {
  const choices = [
    { key: "stock", ending: ":available", kind: "sku" },
    { key: "stock", ending: ":held", kind: "sku" },
    { key: "users", ending: ":balance", kind: "user" },
    { key: "users", ending: ":credits", kind: "user" },
  ];
  const { key, ending, kind } = random.from(choices);
  const fields = (await redis.hkeys(`{${shopId}}:${key}`)).filter((field) => field.endsWith(ending)).sort();
  const field = random.from(fields);
  await redis.hincrby(`{${shopId}}:${key}`, field, 1);
  return `${kind}:${field.slice(0, -ending.length)}`;
}

/** What a rebuild made different. It forgets ids that only an earlier turn of the memory had, never one of its own. */
function differences(whole: RedisState, after: RedisState): readonly string[] {
  const before = { ...whole, hashes: withoutEarlyCounts(whole.hashes, after.hashes) };
  const parts = [
    ...Object.keys(before.hashes).map(
      (name) => [name, withoutZeros(name, before.hashes[name]), withoutZeros(name, after.hashes[name])] as const,
    ),
    ...Object.keys(before.sortedSets).map((name) => [name, before.sortedSets[name], after.sortedSets[name]] as const),
    ["log", before.log, after.log] as const,
    ["last", before.last, after.last] as const,
  ];
  return parts
    .filter(([, left, right]) => !isDeepStrictEqual(left, right))
    .map(
      ([name, left, right]) =>
        `a rebuild changes ${name}: ${write(left).slice(0, 2000)} to ${write(right).slice(0, 2000)}`,
    );
}

type Hashes = RedisState["hashes"];

/**
 * A first limit makes Redis count what users had of a product before it decides; when that call is refused in the end, it
 * goes on counting, and a rebuild, which knows of no limit, does not.
 */
function withoutEarlyCounts(before: Hashes, after: Hashes): Hashes {
  const isCounted = (hashes: Hashes, terms: string): boolean => hashes.stock?.[terms]?.split(" ")[1] === "1";
  const early = Object.keys(before.stock ?? {}).filter(
    (field) => field.endsWith(":terms") && isCounted(before, field) && !isCounted(after, field),
  );
  const stock = Object.entries(before.stock ?? {}).map(([field, value]) =>
    early.includes(field) ? [field, plainTerms(value.replace(/^0 1 /, "0 0 "))] : [field, value],
  );
  const skus = early.map((field) => field.slice(0, -":terms".length));
  const limits = Object.entries(before.limits ?? {}).filter(
    ([field]) => !skus.some((sku) => field.endsWith(`:${sku}`)),
  );
  return { ...before, stock: Object.fromEntries(stock), limits: Object.fromEntries(limits) };
}

/** Terms that say nothing are empty. */
function plainTerms(terms: string): string {
  return terms === "0 0 0 0 0" ? "" : terms;
}

/** Stats and balances that are 0 say what none say; any other field stays. */
function withoutZeros(name: string, hash: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  const says = (field: string): boolean => name === "stats" || (name === "users" && field.endsWith(":balance"));
  return Object.fromEntries(Object.entries(hash).filter(([field, value]) => value !== "0" || !says(field)));
}

/** Does it again as long as a store seems away: on a busy machine one that is slow does. */
async function whenAvailable(work: () => Promise<void>): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const error: unknown = await work().then(
      () => undefined,
      (failure: unknown) => failure,
    );
    if (error === undefined) return;
    if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) throw error;
    await pause(200);
  }
  throw new Error("the server stays unavailable");
}
