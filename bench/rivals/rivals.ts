import { createBareDecrement, createCheckThenDecrement } from "./broken.ts";
import { createLuaOnly } from "./lua-only.ts";
import { createOneStatement } from "./one-statement.ts";
import { createOneStatementPromises } from "./one-statement-promises.ts";
import { createOptimistic } from "./optimistic.ts";
import { createRedisLock } from "./redis-lock.ts";
import { createRedisWatch } from "./redis-watch.ts";
import type { CreateRival } from "./rival.ts";
import { createRowLock } from "./row-lock.ts";
import { createRowLockPromises } from "./row-lock-promises.ts";
import { createUnitRows } from "./unit-rows.ts";
import { createUnitRowsStatement } from "./unit-rows-statement.ts";

/** Every way to sell that is compared with Holdfast. */
export const rivals = {
  "row-lock": createRowLock,
  "one-statement": createOneStatement,
  optimistic: createOptimistic,
  "unit-rows": createUnitRows,
  "unit-rows-statement": createUnitRowsStatement,
  "redis-lock": createRedisLock,
  "redis-watch": createRedisWatch,
  "lua-only": createLuaOnly,
  "row-lock-promises": createRowLockPromises,
  "one-statement-promises": createOneStatementPromises,
  "check-then-decrement": createCheckThenDecrement,
  "bare-decrement": createBareDecrement,
} satisfies Record<string, CreateRival>;

/** The name of one. */
export type RivalName = keyof typeof rivals;
