import type { ColumnType, Generated } from "kysely";

/** Counts, positions and amounts: `bigint` in Postgres, a safe integer here. */
type Integer = number;

/** One row per shop. `head` is the newest commit; every flush compares it and moves it on. */
export interface ShopRow {
  shop_id: string;
  currency_code: string;
  create_time: Date;
  epoch: Integer;
  head_position: Integer;
  head_commit_id: string;
  product_count: Generated<Integer>;
  user_count: Generated<Integer>;
  open_hold_count: Generated<Integer>;
  open_order_count: Generated<Integer>;
}

/** One row per commit: the event log, the idempotency record and the audit trail in one. */
export interface CommitRow {
  shop_id: string;
  position: Integer;
  commit_id: string;
  epoch: Integer;
  commit_time: Date;
  request_id: string;
  /** The call as in the log: rpc, request id, principal and the parsed request. */
  call: ColumnType<string, string, string>;
  /** The events as in the log. */
  events: ColumnType<string, string, string>;
}

/** The terms of a product. */
export interface ProductRow {
  shop_id: string;
  sku: string;
  title: string;
  price_minor: Integer;
  max_per_user: Integer;
  sale_start_time: Date | null;
  sale_end_time: Date | null;
  withdrawn: boolean;
  /** Whether the product ever had a limit: from then on what each user has had of it is kept in Redis. */
  limit_tracked: boolean;
  create_time: Date;
  update_time: Date;
  position: Integer;
}

/** The levels of a product; a table of its own because every sale rewrites the row. */
export interface StockRow {
  shop_id: string;
  sku: string;
  available_count: Integer;
  held_count: Integer;
  sold_count: Integer;
}

/** A line of a hold or an order as it stands in `lines`. */
export interface StoredLine {
  sku: string;
  quantity: number;
  price_minor: number;
}

/** A hold, open or ended. */
export interface HoldRow {
  shop_id: string;
  hold_id: string;
  user_id: string;
  lines: ColumnType<StoredLine[], string, string>;
  /** A HoldState of the contract. */
  state: number;
  create_time: Date;
  expire_time: Date;
  order_id: string;
  create_position: Integer;
  position: Integer;
}

/** An order. */
export interface OrderRow {
  shop_id: string;
  order_id: string;
  user_id: string;
  lines: ColumnType<StoredLine[], string, string>;
  item_count: Integer;
  amount_minor: Integer;
  refunded_minor: Integer;
  /** An OrderState of the contract. */
  state: number;
  /** A PaymentMethod of the contract. */
  payment_method: number;
  hold_id: string;
  create_time: Date;
  update_time: Date;
  create_position: Integer;
  position: Integer;
}

/** A user with wallet and counts. */
export interface UserRow {
  shop_id: string;
  user_id: string;
  email: string;
  /** The e-mail as it must be unique: trimmed and lower-cased. */
  email_key: string;
  display_name: string;
  balance_minor: Integer;
  credits: Integer;
  order_count: Integer;
  lifetime_value_minor: Integer;
  create_time: Date;
  update_time: Date;
  create_position: Integer;
  position: Integer;
}

/** One side of a wallet movement. The entries of a commit sum to zero per kind. */
export interface LedgerEntryRow {
  shop_id: string;
  position: Integer;
  index: number;
  /** `user:<id>`, or the shop's own `funding`, `revenue`, `credits`. */
  account: string;
  /** A WalletEntryKind of the contract: 1 money, 2 credits. */
  kind: number;
  delta: Integer;
  /** The account's balance afterwards; null for the shop's own accounts. */
  balance_after: Integer | null;
  cause: string;
  order_id: string;
  reference: string;
}

/** Every table of Holdfast, for Kysely. */
export interface Database {
  shops: ShopRow;
  commits: CommitRow;
  products: ProductRow;
  stock: StockRow;
  holds: HoldRow;
  orders: OrderRow;
  users: UserRow;
  ledger_entries: LedgerEntryRow;
}
