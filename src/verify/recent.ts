import { type Kysely, sql } from "kysely";
import { readCommits } from "../postgres/commits.ts";
import type { Database } from "../postgres/schema.ts";
import { chunksOf, type Looks } from "./looks.ts";
import type { Model } from "./model.ts";
import { pageCount, type Run } from "./run.ts";

const holdStates: Readonly<Record<number, string>> = { 2: "COMMITTED", 3: "RELEASED", 4: "EXPIRED" };

/**
 * The recent memory: every record says what the log says, and whatever is younger than its horizon has its record, so that
 * a repeated request id or a used id is known. What does not seem right at a first look is looked at once more, together
 * with the memory's horizon.
 */
export async function compareRecent(run: Run, looks: Looks): Promise<void> {
  const { db, model } = run;
  const horizons = new Horizons(run);
  for (const half of ["recent_0", "recent_1"]) {
    for await (const { payload } of looks.scan(half)) {
      run.checkedCount += payload.length;
      await compareRecords(run, looks, horizons, await doubtful(run, payload));
    }
  }
  const horizon = await horizons.positionOf((await looks.read("recent", ["request:"])).forgottenMs);
  for (const fields of chunksOf(youngRecords(model, horizon), pageCount)) {
    run.checkedCount += fields.length;
    await compareRecords(run, looks, horizons, fields);
  }
  const last = model.position;
  for (let after = horizon; after < last; ) {
    const commits = await readRequestIds(db, model.shopId, after, last);
    after = commits.at(-1)?.position ?? last;
    const fields = commits.filter(({ requestId }) => requestId !== "").map(({ requestId }) => `request:${requestId}`);
    if (fields.length > 0) {
      run.checkedCount += fields.length;
      const { values } = await looks.read("recent", fields);
      const positions = new Map(commits.map(({ requestId, position }) => [`request:${requestId}`, String(position)]));
      const other = fields.filter((field, index) => values[index] !== positions.get(field));
      await compareRecords(run, looks, horizons, other);
    }
  }
}

/** The records of what ended or was ordered after the horizon. */
function youngRecords({ holds, orders }: Model, horizon: number): string[] {
  const fields: string[] = [];
  for (const [id, { open, position }] of holds) {
    if (open === undefined && position > horizon) {
      fields.push(`hold:${id}`);
    }
  }
  for (const [id, { position }] of orders) {
    if (position > horizon) {
      fields.push(`order:${id}`);
    }
  }
  return fields;
}

/** Which of some records, all of one look, are not plainly right. */
async function doubtful(run: Run, records: readonly (readonly [field: string, value: string])[]): Promise<string[]> {
  const requests = records.filter(([field]) => field.startsWith("request:"));
  const positions = requests.map(([, value]) => Number(value)).filter(Number.isSafeInteger);
  const rows =
    positions.length === 0
      ? []
      : await run.db
          .selectFrom("commits")
          .select(["position", "request_id"])
          .where("shop_id", "=", run.model.shopId)
          .where(sql<boolean>`position = any(${positions}::bigint[])`)
          .execute();
  const idsAt = new Map(rows.map((row) => [String(row.position), `request:${row.request_id}`]));
  return records
    .filter(([field, value]) =>
      field.startsWith("request:") ? idsAt.get(value) !== field : recordOf(run.model, field, 0)?.value !== value,
    )
    .map(([field]) => field);
}

/** What the memory has to hold of an order or a hold. */
function recordOf({ orders, holds }: Model, field: string, forgottenPosition: number): RecentRecord | undefined {
  const id = field.slice(field.indexOf(":") + 1);
  return field.startsWith("hold:") ? holdRecord(holds.get(id)) : orderRecord(orders.get(id), forgottenPosition);
}

/** Compares some records of the recent memory with the log; also whether they may be absent. */
async function compareRecords(run: Run, looks: Looks, horizons: Horizons, fields: readonly string[]): Promise<void> {
  if (fields.length === 0) {
    return;
  }
  const look = await looks.read("recent", fields);
  const horizon = await horizons.positionOf(look.forgottenMs);
  const owners = await readOwners(run, fields, look.position);
  for (const [index, field] of fields.entries()) {
    const found = look.values[index];
    const record = field.startsWith("request:")
      ? requestRecord(owners.get(field.slice("request:".length)))
      : recordOf(run.model, field, look.forgottenPosition);
    const mayBeAbsent = record === undefined || record.isForgotten(horizon);
    const isRight =
      found === undefined
        ? mayBeAbsent
        : found === record?.value || (record?.older !== undefined && found === record.older);
    if (!isRight) {
      const [kind] = field.split(":");
      run.report({
        kind: `${kind?.toUpperCase()}_RECORD`,
        subject: field,
        position: record?.position ?? look.position,
        store: "REDIS",
        expected: record?.value ?? "",
        found: found ?? "",
      });
    }
  }
}

/** What the recent memory has to hold of something. */
interface RecentRecord {
  readonly value: string;
  /** Another value that does, for a change that need not be remembered. */
  readonly older?: string;
  /** The commit that wrote it. */
  readonly position: number;
  /** Whether it may be absent when the memory lets go what is not younger than this commit. */
  isForgotten(horizon: number): boolean;
}

function requestRecord(position: number | undefined): RecentRecord | undefined {
  return position === undefined
    ? undefined
    : { value: String(position), position, isForgotten: (horizon) => position <= horizon };
}

function holdRecord(
  hold: { readonly state: number; readonly createPosition: number; readonly position: number } | undefined,
): RecentRecord | undefined {
  const ending = holdStates[hold?.state ?? 0];
  if (hold === undefined || ending === undefined) {
    return undefined;
  }
  const { createPosition, position } = hold;
  return { value: `${createPosition} ${position} ${ending}`, position, isForgotten: (horizon) => position <= horizon };
}

function orderRecord(
  order: { readonly createPosition: number; readonly position: number } | undefined,
  forgottenPosition: number,
): RecentRecord | undefined {
  if (order === undefined) {
    return undefined;
  }
  const { createPosition, position } = order;
  const older = String(createPosition);
  if (position === createPosition) {
    return { value: older, position, isForgotten: (horizon) => position <= horizon };
  }
  return {
    value: `${createPosition} ${position}`,
    ...(position <= forgottenPosition ? { older } : {}),
    position,
    isForgotten: (horizon) => createPosition <= horizon && position <= Math.max(horizon, forgottenPosition),
  };
}

/** Which position a time is, in the log. */
class Horizons {
  readonly #run: Run;
  readonly #known = new Map<number, number>([[0, 0]]);

  constructor(run: Run) {
    this.#run = run;
  }

  /** The last commit that is not younger than a time; 0 = none. */
  async positionOf(timeMs: number): Promise<number> {
    const known = this.#known.get(timeMs);
    if (known !== undefined) {
      return known;
    }
    const { db, model } = this.#run;
    let [low, high] = [0, model.position];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      const [entry] = await readCommits(db, model.shopId, middle, 1);
      if (entry !== undefined && entry.timeMs <= timeMs) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    this.#known.set(timeMs, low);
    return low;
  }
}

async function readRequestIds(db: Kysely<Database>, shopId: string, after: number, last: number) {
  return db
    .selectFrom("commits")
    .select(["position", "request_id as requestId"])
    .where("shop_id", "=", shopId)
    .where("position", ">", after)
    .where("position", "<=", last)
    .orderBy("position")
    .limit(pageCount)
    .execute();
}

/** The newest commit of each request id among some fields, not beyond a position. */
async function readOwners(run: Run, fields: readonly string[], last: number): Promise<Map<string, number>> {
  const ids = fields.flatMap((field) => (field.startsWith("request:") ? [field.slice("request:".length)] : []));
  if (ids.length === 0) {
    return new Map();
  }
  const { rows } = await sql<{ id: string; position: number }>`
    select request_id as id, max(position) as position from commits
    where shop_id = ${run.model.shopId} and request_id = any(${ids}) and request_id <> '' and position <= ${last}
    group by 1`.execute(run.db);
  return new Map(rows.map(({ id, position }) => [id, position]));
}
