/**
 * The events of the log as verification reads them: written down once more, apart from what projects them, because it
 * checks that. Times are milliseconds, enums numbers; whatever may be left out of an event is optional.
 */

/** A line of a cart. */
export interface Line {
  readonly sku: string;
  readonly quantity: number;
  readonly price_minor: number;
}

/** Units of one SKU. */
export interface Units {
  readonly sku: string;
  readonly quantity: number;
}

/** A Product. */
export interface ProductEvent {
  readonly sku: string;
  readonly title: string;
  readonly price_minor: number;
  readonly max_per_user: number;
  readonly sale_start_time?: number;
  readonly sale_end_time?: number;
  readonly withdrawn?: boolean;
  readonly create_time: number;
  readonly update_time: number;
  readonly position: number;
}

/** A StockLevel. */
export interface StockEvent {
  readonly sku: string;
  readonly available_count: number;
  readonly held_count: number;
  readonly sold_count: number;
  readonly price_minor?: number;
}

/** A Hold. */
export interface HoldEvent {
  readonly hold_id: string;
  readonly user_id: string;
  readonly lines: readonly Line[];
  readonly state: number;
  readonly create_time: number;
  readonly expire_time: number;
  readonly order_id?: string;
  readonly create_position: number;
  readonly position: number;
}

/** An Order. */
export interface OrderEvent {
  readonly order_id: string;
  readonly user_id: string;
  readonly lines: readonly Line[];
  readonly item_count: number;
  readonly amount_minor: number;
  readonly refunded_minor?: number;
  readonly state: number;
  readonly payment_method: number;
  readonly payment_reference?: string;
  readonly charge_id?: string;
  readonly fulfill_reference?: string;
  readonly cancel_reason?: string;
  readonly hold_id?: string;
  readonly expire_time?: number;
  readonly create_time: number;
  readonly update_time: number;
  readonly position: number;
  /** Absent in `order_placed`: there it is the position. */
  readonly create_position?: number;
  readonly confirm_position?: number;
  readonly fulfill_position?: number;
  readonly refund_count?: number;
  readonly restocked?: readonly Units[];
}

/** A User; those of old logs have neither tier nor referral. */
export interface UserEvent {
  readonly user_id: string;
  readonly balance_minor: number;
  readonly credits: number;
  readonly tier?: string;
  readonly referral_code?: string;
  readonly referred_by?: string;
  readonly referral_count?: number;
  readonly order_count: number;
  readonly lifetime_value_minor: number;
  readonly create_time: number;
  readonly update_time: number;
  readonly position: number;
}

/** A Tier. */
export interface TierEvent {
  readonly tier: string;
  readonly price_credits: number;
  readonly limits: { readonly max_projects: number; readonly max_storage_mb: number; readonly max_api_calls: number };
}

/** A Subscription. */
export interface SubscriptionEvent {
  readonly user_id: string;
  readonly tier: string;
  readonly price_credits: number;
  readonly period_start_time: number;
  readonly period_end_time: number;
  readonly scheduled_tier?: string;
  readonly update_time: number;
  readonly position: number;
}

/** What an order's event says of its buyer. */
export interface BuyerCounts {
  readonly balance_minor?: number;
  readonly order_count?: number;
  readonly lifetime_value_minor?: number;
}

/** The payload of every event, by name. */
export interface Events {
  shop_created: { shop_id: string; currency_code: string };
  product_put: { product: ProductEvent; created: boolean };
  stock_adjusted: { stock: StockEvent; delta_count: number };
  stock_held: { hold: HoldEvent; stocks: StockEvent[] };
  hold_extended: { hold: HoldEvent };
  hold_released: { hold: HoldEvent; stocks: StockEvent[] };
  hold_expired: { hold: HoldEvent; stocks: StockEvent[] };
  hold_committed: { hold: HoldEvent };
  order_placed: BuyerCounts & { order: OrderEvent; stocks: StockEvent[] };
  order_confirmed: BuyerCounts & { order: OrderEvent; stocks: StockEvent[] };
  order_cancelled: { order: OrderEvent; stocks: StockEvent[] };
  order_fulfilled: { order: OrderEvent };
  order_refunded: BuyerCounts & {
    order: OrderEvent;
    stocks?: StockEvent[];
    amount_minor: number;
    reason?: string;
    restock_lines?: Units[];
    refund_number: number;
  };
  refund_settled: { order: OrderEvent; amount_minor: number; refund_number: number; refund_id: string };
  user_created: { user: UserEvent; referral_applied?: boolean };
  referral_rewarded: { user: UserEvent; credits: number; referred_user_id: string };
  user_updated: { user: UserEvent };
  funds_deposited: { user: UserEvent; amount_minor: number; reference?: string };
  funds_withdrawn: { user: UserEvent; amount_minor: number; reference?: string };
  credits_granted: { user: UserEvent; credits: number; reason?: string };
  tier_put: { tier: TierEvent };
  tier_changed: {
    subscription: SubscriptionEvent;
    from_tier: string;
    to_tier: string;
    proration?: number;
    cause: number;
    charged_credits?: number;
    credited_credits?: number;
    credits: number;
  };
  tier_change_scheduled: { subscription: SubscriptionEvent; from_tier: string; to_tier: string };
  tier_change_cancelled: { subscription: SubscriptionEvent; scheduled_tier?: string };
  subscription_renewed: { subscription: SubscriptionEvent; charged_credits?: number; credits: number };
}
