import { checkShop } from "../chaos/check-shop.ts";
import type { HoldfastProcess } from "../helpers/holdfast.ts";
import { persist } from "../helpers/load.ts";
import { until } from "../helpers/until.ts";
import { checkHistory } from "../history/check-history.ts";
import type { CallRecord } from "../history/history.ts";
import { readCommits } from "../history/read-commits.ts";
import type { Callers } from "./callers.ts";
import type { Stage } from "./stage.ts";
import type { Watchers } from "./watchers.ts";

/** What is checked after a crash. */
export interface Aftermath {
  readonly stage: Stage;
  readonly shopId: string;
  /** The calls that made the shop what it was when the load began. */
  readonly opening: readonly CallRecord[];
  readonly callers: Callers;
  readonly watchers: Watchers;
  readonly rescuer: HoldfastProcess;
  /** Whether the harness changed what is in no event. */
  readonly hasEdits: boolean;
}

/**
 * Throws what is wrong: what was acknowledged is there, once; both stores agree and add up; the gateway's book says what
 * the orders say; what callers were told is strictly serializable; watchers were sent the history.
 */
export async function checkAftermath(after: Aftermath): Promise<void> {
  const { stage, shopId, opening, callers, watchers, rescuer, hasEdits } = after;
  await settled(stage, shopId);
  const commits = await readCommits(stage.postgres, shopId);
  const acknowledged = callers.accepted.map(({ commit }) => ({
    requestId: commit.request_id,
    position: commit.position,
    commitId: commit.commit_id,
  }));
  const calls = [...opening, ...callers.calls];
  const wrong = [
    ...(await checkShop({ ...stage, shopId, commits, acknowledged })),
    ...(await checkCreatedShops(stage, callers.shopIds)),
    ...(hasEdits ? [] : checkHistory({ shopId, currencyCode: "USD", calls, commits }).map(describe)),
    ...(hasEdits ? [] : await checkVerify(rescuer, shopId)),
  ];
  if (wrong.length > 0) throw new Error(`shop ${shopId}: ${wrong.slice(0, 10).join("\n")}`);
  await watchers.check(commits.map(({ commitId }) => commitId));
}

/** Waits until Postgres has what Redis has, knows what became of every payment, and nothing is about to become due. */
async function settled({ redis, postgres }: Stage, shopId: string): Promise<void> {
  const query = `select head_position, head_commit_id,
      (select count(*) from orders where shop_id = $1 and state = 1 and payment_method = 4)
        + (select count(*) from refunds where shop_id = $1 and not settled)
        + (select count(*) from holds where shop_id = $1 and state = 1 and expire_time < now() + interval '1 minute') as waiting
    from shops where shop_id = $1`;
  await until(
    "Postgres has everything, every payment is settled, and no hold is due",
    async () => {
      const [position, commitId] = await redis.hmget(`{${shopId}}:meta`, "position", "commit_id");
      const { head_position, head_commit_id, waiting } = (await postgres.query(query, [shopId])).rows[0];
      return head_position === position && head_commit_id === commitId && waiting === "0";
    },
    30_000,
  );
}

/** A shop that was created is there, with its first commit. */
async function checkCreatedShops({ postgres }: Stage, shopIds: readonly string[]): Promise<readonly string[]> {
  const { rows } = await postgres.query<{ id: string }>(
    "select id from unnest($1::text[]) id left join shops on shop_id = id where head_position is distinct from 1",
    [shopIds],
  );
  return rows.map(({ id }) => `the shop ${id} was created, and is not there`);
}

async function checkVerify({ grpc }: HoldfastProcess, shopId: string): Promise<readonly string[]> {
  const verify = async (): Promise<readonly string[]> => {
    const wrong: string[] = [];
    for await (const { discrepancies } of grpc.admin.verifyShop({ shopId })) {
      for (const { kind, subject, position, expected, found } of discrepancies) {
        wrong.push(`VerifyShop: ${kind} of ${subject} at ${position} is ${found}, not ${expected}`);
      }
    }
    return wrong;
  };
  // A server that stood still may find out only now that a store was away, and refuses for a moment.
  return (await persist(verify)) ?? ["VerifyShop was refused"];
}

function describe({ kind, position, text, calls }: ReturnType<typeof checkHistory>[number]): string {
  return `${kind} at ${position}: ${text}; ${calls.map(({ call, outcome }) => JSON.stringify([call, outcome])).join(" ")}`;
}
