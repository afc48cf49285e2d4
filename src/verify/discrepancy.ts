/** A store of a shop. */
export type Store = "REDIS" | "POSTGRES";

/** Something that is not what the event log says it must be. */
export interface Discrepancy {
  /**
   * What kind of thing it is, stable: `LOG` (positions, ids, times of the log itself), `EVENT` (an event contradicts those
   * before it), or what is stored of them: `PRODUCT`, `STOCK_LEVEL`, `SKU_STATS`, `HOLD`, `DUE`, `ORDER`, `REFUND`, `USER`,
   * `WALLET_BALANCE`, `EMAIL`, `REFERRAL_CODE`, `LIMIT`, `TIER`, `SUBSCRIPTION`, `TIER_CHANGE`, `LEDGER_ENTRY`, `STATS`,
   * `SHOP`, `REQUEST_RECORD`, `ORDER_RECORD`, `HOLD_RECORD`, `LOG_ENTRY`, `KEY` (a key of Redis is not of its type).
   */
  readonly kind: string;
  /** Which one: `sku:ps5`, `user:u1`, `hold:h1`, `order:o1`, `request:r1`, `commit:17`, `entry:17.0` (of the
   * ledger), `shop:default`, `key:stock`. */
  readonly subject: string;
  /** The commit that last set it, where one did; otherwise the position at which it was looked at. */
  readonly position: number;
  readonly store: Store;
  /** What the log says: `available=5`; empty = nothing should be there. */
  readonly expected: string;
  /** What the store says, the same fields; empty = nothing is there. */
  readonly found: string;
}

/** Named values of one thing; undefined = not there. */
export type Fields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** Where two versions of one thing differ, as text; undefined when they are equal. Both have the same names. */
export function differenceOf(expected: Fields, found: Fields): { expected: string; found: string } | undefined {
  const names = Object.keys(expected).filter((name) => textOf(expected[name]) !== textOf(found[name]));
  return names.length === 0 ? undefined : { expected: describe(expected, names), found: describe(found, names) };
}

/** Fields of a thing as text; empty for a thing that is not there. */
export function describe(fields: Fields | undefined, names: readonly string[] = Object.keys(fields ?? {})): string {
  return fields === undefined ? "" : names.map((name) => `${name}=${textOf(fields[name])}`).join(" ");
}

function textOf(value: string | number | boolean | null | undefined): string {
  return value === undefined ? "absent" : String(value);
}
