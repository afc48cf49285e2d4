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
  /** Orders that were paid, and what was in them: gross, as GetShopStats tells. */
  order_count: Generated<Integer>;
  item_count: Generated<Integer>;
  revenue_minor: Generated<Integer>;
  refunded_minor: Generated<Integer>;
  upgrade_credits: Generated<Integer>;
  downgrade_credits: Generated<Integer>;
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
  /** Paid orders with this product, their units and what they cost: gross, as ListSkuStats tells. */
  order_count: Generated<Integer>;
  unit_count: Generated<Integer>;
  revenue_minor: Generated<Integer>;
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
  payment_reference: Generated<string>;
  charge_id: Generated<string>;
  fulfill_reference: Generated<string>;
  cancel_reason: Generated<string>;
  /** Until when an EXTERNAL order waits for its payment; null for others. */
  expire_time: Date | null;
  /** The commit that confirmed the payment of an EXTERNAL or GATEWAY order; 0 = none did. */
  confirm_position: Generated<Integer>;
  /** The commit that fulfilled it; 0 = none did. */
  fulfill_position: Generated<Integer>;
  /** Refunds made. */
  refund_count: Generated<number>;
  /** Units given back to stock by refunds so far, per SKU; null = none. */
  restocked: ColumnType<RestockedLine[] | null, string | null, string | null>;
  create_time: Date;
  update_time: Date;
  create_position: Integer;
  position: Integer;
}

/** Units of one SKU that an order's refunds gave back to stock. */
export interface RestockedLine {
  sku: string;
  quantity: number;
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
  referral_code: Generated<string>;
  referred_by: Generated<string>;
  referral_count: Generated<Integer>;
  tier: Generated<string>;
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
  /** `user:<id>`, or the shop's own: `funding`, `revenue`, `credits`, `external`, `gateway`. */
  account: string;
  /** A WalletEntryKind of the contract: 1 money, 2 credits. */
  kind: number;
  delta: Integer;
  /** The account's balance afterwards; null for the shop's own accounts. */
  balance_after: Integer | null;
  /** A WalletEntryCause of the contract, without prefix. */
  cause: string;
  order_id: string;
  reference: string;
  reason: Generated<string>;
}

/** A tier of a shop's subscriptions. */
export interface TierRow {
  shop_id: string;
  tier: string;
  price_credits: Integer;
  max_projects: Integer;
  max_storage_mb: Integer;
  max_api_calls: Integer;
  position: Integer;
}

/** The subscription of a user who ever changed the tier. */
export interface SubscriptionRow {
  shop_id: string;
  user_id: string;
  tier: string;
  /** What the present period costs; the tier may cost something else by now. */
  price_credits: Integer;
  period_start_time: Date;
  period_end_time: Date;
  /** Empty: nothing is scheduled. */
  scheduled_tier: string;
  update_time: Date;
  position: Integer;
}

/** A change of a user's tier. */
export interface TierChangeRow {
  shop_id: string;
  user_id: string;
  position: Integer;
  from_tier: string;
  to_tier: string;
  /** A ProrationMode of the contract; 0 where time changed the tier. */
  proration: number;
  /** A TierChangeCause of the contract. */
  cause: number;
  charged_credits: Integer;
  credited_credits: Integer;
  commit_time: Date;
}

/** A refund of an order that the gateway charged. */
export interface RefundRow {
  shop_id: string;
  order_id: string;
  /** 1 for the order's first refund. */
  refund_number: number;
  amount_minor: Integer;
  /** Whether the gateway has made it. */
  settled: boolean;
  /** The gateway's id of it; empty until settled. */
  refund_id: string;
  create_position: Integer;
}

/** How far a consumer has acknowledged a shop's log. */
export interface ConsumerRow {
  shop_id: string;
  consumer: string;
  position: Integer;
  /** The watch that has the consumer now; another value ends it. */
  session: string;
  update_time: Date;
}

/** When a shop was last verified to the end, on the side or by VerifyShop, whatever was found. */
export interface VerificationRow {
  shop_id: string;
  verify_time: Date;
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
  tiers: TierRow;
  subscriptions: SubscriptionRow;
  tier_changes: TierChangeRow;
  refunds: RefundRow;
  consumers: ConsumerRow;
  verifications: VerificationRow;
}
