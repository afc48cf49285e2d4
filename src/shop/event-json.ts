/** A Product in an event. Times are milliseconds, here and below. */
export interface ProductJson {
  sku: string;
  title: string;
  price_minor: number;
  max_per_user: number;
  sale_start_time?: number;
  sale_end_time?: number;
  withdrawn: boolean;
  create_time: number;
  update_time: number;
  position: number;
}

/** A StockLevel in an event. */
export interface StockJson {
  sku: string;
  available_count: number;
  held_count: number;
  sold_count: number;
}

/** A line of a hold or an order in an event. */
export interface LineJson {
  sku: string;
  quantity: number;
  price_minor: number;
}

/** A Hold in an event. */
export interface HoldJson {
  hold_id: string;
  user_id: string;
  lines: LineJson[];
  state: number;
  create_time: number;
  expire_time: number;
  order_id: string;
  create_position: number;
  position: number;
}

/** An Order in an event. */
export interface OrderJson {
  order_id: string;
  user_id: string;
  lines: LineJson[];
  item_count: number;
  amount_minor: number;
  refunded_minor: number;
  state: number;
  payment_method: number;
  payment_reference?: string;
  charge_id?: string;
  fulfill_reference?: string;
  cancel_reason?: string;
  hold_id: string;
  expire_time?: number;
  create_time: number;
  update_time: number;
  position: number;
  /** Absent in `order_placed`, where it is `position`. */
  create_position?: number;
  /** The commits that confirmed and fulfilled it; absent = none did. */
  confirm_position?: number;
  fulfill_position?: number;
  refund_count?: number;
  restocked?: { sku: string; quantity: number }[];
}

/** A User in an event. */
export interface UserJson {
  user_id: string;
  balance_minor: number;
  credits: number;
  tier?: string;
  referral_code?: string;
  referred_by?: string;
  referral_count?: number;
  order_count: number;
  lifetime_value_minor: number;
  create_time: number;
  update_time: number;
  position: number;
}

/** What belongs in Postgres but not in events: the `private` field of `user_created`, and the changed part in `user_updated`. */
export interface PrivateJson {
  email: string;
  email_key: string;
  display_name: string;
}

/** A Tier in an event. */
export interface TierJson {
  tier: string;
  price_credits: number;
  limits: { max_projects: number; max_storage_mb: number; max_api_calls: number };
}

/** A Subscription in an event. */
export interface SubscriptionJson {
  user_id: string;
  tier: string;
  price_credits: number;
  period_start_time: number;
  period_end_time: number;
  scheduled_tier?: string;
  update_time: number;
  position: number;
}

/** From which tier to which, why, and for what. */
export interface TierStepJson {
  from_tier: string;
  to_tier: string;
  proration: number;
  cause: number;
  charged_credits: number;
  credited_credits: number;
}

/**
 * The events of the log, by name. Some carry more than the contract's events: those of orders the buyer's counts,
 * `product_put` whether the product is new, holds and orders the position of their creation.
 */
export interface EventJson {
  shop_created?: { shop_id: string; currency_code: string };
  product_put?: { product: ProductJson; created: boolean };
  stock_adjusted?: { stock: StockJson; delta_count: number; reason: number; reference: string };
  stock_held?: { hold: HoldJson; stocks: StockJson[] };
  hold_extended?: { hold: HoldJson };
  hold_released?: { hold: HoldJson; stocks: StockJson[] };
  hold_expired?: { hold: HoldJson; stocks: StockJson[] };
  hold_committed?: { hold: HoldJson };
  order_placed?: {
    order: OrderJson;
    stocks: StockJson[];
    balance_minor?: number;
    order_count?: number;
    lifetime_value_minor?: number;
  };
  order_confirmed?: { order: OrderJson; stocks: StockJson[]; lifetime_value_minor?: number };
  order_cancelled?: { order: OrderJson; stocks: StockJson[] };
  order_refunded?: {
    order: OrderJson;
    stocks: StockJson[];
    balance_minor?: number;
    amount_minor: number;
    reason: string;
    refund_number: number;
    lifetime_value_minor?: number;
  };
  refund_settled?: { order: OrderJson; amount_minor: number; refund_number: number; refund_id: string };
  order_fulfilled?: { order: OrderJson };
  user_created?: { user: UserJson };
  referral_rewarded?: { user: UserJson; credits: number };
  user_updated?: { user: UserJson };
  funds_deposited?: { user: UserJson; amount_minor: number; reference: string };
  funds_withdrawn?: { user: UserJson; amount_minor: number; reference: string };
  credits_granted?: { user: UserJson; credits: number; reason: string };
  tier_put?: { tier: TierJson };
  tier_changed?: TierStepJson & { subscription: SubscriptionJson; credits: number };
  tier_change_scheduled?: { subscription: SubscriptionJson };
  tier_change_cancelled?: { subscription: SubscriptionJson };
  subscription_renewed?: { subscription: SubscriptionJson; charged_credits: number; credits: number };
}
