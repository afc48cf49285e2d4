import { makeId } from "../../src/shop/ids.ts";
import { type Bytes, type Kind, readBytes, readTableBytes } from "./bytes.ts";
import type { Rounds } from "./in-turns.ts";
import type { Testbed } from "./testbed.ts";

/** A shop that was filled by SQL, and what each thing in it takes. */
export interface FilledShop {
  readonly shopId: string;
  readonly bytes: readonly Bytes[];
}

/** How a shop is filled. */
export interface Filling {
  readonly shopId: string;
  readonly size: number;
  /** Any of its products. */
  readonly sku: string;
  /** Fills PostgreSQL. */
  readonly fill: () => Promise<void>;
  readonly kinds: readonly Kind[];
}

/** A large shop takes longer to open than a call usually waits, and no longer than ten minutes. */
const timeoutMs = 600_000;

/** Creates a shop, fills it, and has Holdfast rebuild it in Redis. */
export async function openFilledShop(
  testbed: Testbed,
  { shopId, size, sku, fill, kinds }: Filling,
  { say, signal }: Rounds,
): Promise<FilledShop> {
  const { admin, inventory } = testbed.clients;
  const startedMs = performance.now();
  await admin.createShop({ shopId, requestId: makeId(), currencyCode: "USD" });
  const before = await readTableBytes(testbed.database);
  await fill();
  const filledMs = performance.now();
  await inventory.getStock({ shopId, sku }, { timeoutMs, signal });
  const seconds = (from: number, to: number) => ((to - from) / 1000).toFixed(1);
  say(`${shopId}: filled in ${seconds(startedMs, filledMs)} s, rebuilt in ${seconds(filledMs, performance.now())} s`);
  return { shopId, bytes: await readBytes(testbed, { shopId, size }, before, kinds) };
}
