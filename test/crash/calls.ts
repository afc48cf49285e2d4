import { bodyOf, type Call } from "../model/decide.ts";
import type { Plain } from "../model/plain.ts";
import type { Dice } from "./dice.ts";

/** A kind of call that the load of a sweep makes. */
export type Kind = keyof typeof kinds;

/** How often each kind of call comes, against the others. */
export type Mix = Partial<Readonly<Record<Kind, number>>>;

/** What a caller has made so far, to go on with. */
export interface Belongings {
  readonly dice: Dice;
  /** A name that nothing has yet. */
  fresh(kind: string): string;
  readonly holds: string[];
  readonly pending: string[];
  readonly paid: string[];
  readonly users: string[];
  /** Products that were sold without a limit. */
  readonly unlimited: string[];
}

type Bound = readonly [rpc: string, request: Plain];

const skus = ["s0", "s1", "s2"];
/** Only held for a second at a time and read: so that a read, not a sale, is what finds a hold due. */
const dueSku = "due";

const line = ({ dice }: Belongings) => ({ sku: dice.from(skus), quantity: dice.between(1, 2) });
const user = ({ dice, users }: Belongings): string => dice.from(users);
const place = (mine: Belongings, payment_method: number, more: Plain = {}): Bound => [
  "PlaceOrder",
  { order_id: mine.fresh("o"), user_id: user(mine), lines: [line(mine)], payment_method, ...more },
];

/** Makes a call of each kind; those that go on with something take a fresh order or hold for granted until there is one. */
export const kinds = {
  walletOrder: (mine: Belongings): Bound => place(mine, 1),
  externalOrder: (mine: Belongings): Bound => place(mine, 2),
  gatewayOrder: (mine: Belongings): Bound => place(mine, 4),
  cart: (mine: Belongings): Bound => place(mine, 1, { lines: [line(mine), line(mine), line(mine)] }),
  hold: (mine: Belongings): Bound => [
    "HoldStock",
    { hold_id: mine.fresh("h"), user_id: user(mine), lines: [line(mine)], hold_duration: 600_000 },
  ],
  shortHold: (mine: Belongings): Bound => [
    "HoldStock",
    { hold_id: mine.fresh("h"), user_id: user(mine), lines: [{ sku: dueSku, quantity: 1 }], hold_duration: 1000 },
  ],
  heldOrder: (mine: Belongings): Bound => [
    "PlaceOrder",
    { order_id: mine.fresh("o"), hold_id: latest(mine.holds, "no-hold"), payment_method: 1 },
  ],
  extend: (mine: Belongings): Bound => [
    "ExtendHold",
    { hold_id: latest(mine.holds, "no-hold"), hold_duration: 900_000 },
  ],
  release: (mine: Belongings): Bound => ["ReleaseHold", { hold_id: latest(mine.holds, "no-hold") }],
  confirm: (mine: Belongings): Bound => [
    "ConfirmOrder",
    { order_id: latest(mine.pending, "no-order"), payment_reference: "paid" },
  ],
  confirmOld: (mine: Belongings): Bound => [
    "ConfirmOrder",
    { order_id: mine.paid[0] ?? "no-order", payment_reference: "late" },
  ],
  cancel: (mine: Belongings): Bound => ["CancelOrder", { order_id: latest(mine.pending, "no-order"), reason: "no" }],
  refund: (mine: Belongings): Bound => [
    "RefundOrder",
    { order_id: latest(mine.paid, "no-order"), amount_minor: 60, reason: "broken" },
  ],
  fulfill: (mine: Belongings): Bound => [
    "FulfillOrder",
    { order_id: latest(mine.paid, "no-order"), reference: "parcel" },
  ],
  deposit: (mine: Belongings): Bound => [
    "DepositFunds",
    { user_id: user(mine), amount_minor: mine.dice.between(1, 500), reference: "in" },
  ],
  withdraw: (mine: Belongings): Bound => [
    "WithdrawFunds",
    { user_id: user(mine), amount_minor: mine.dice.between(1, 500), reference: "out" },
  ],
  grant: (mine: Belongings): Bound => ["GrantCredits", { user_id: user(mine), credits: 3000, reason: "gift" }],
  createUser: (mine: Belongings): Bound => {
    const user_id = mine.fresh("u");
    return ["CreateUser", { user_id, email: `${user_id}@example.com`, display_name: user_id }];
  },
  updateUser: (mine: Belongings): Bound => [
    "UpdateUser",
    { user_id: user(mine), display_name: `N${mine.dice.between(1, 9)}` },
  ],
  changeTier: (mine: Belongings): Bound => [
    "ChangeTier",
    { user_id: user(mine), tier: mine.dice.from(["free", "pro"]) },
  ],
  adjust: (mine: Belongings): Bound => ["AdjustStock", { sku: mine.dice.from(skus), delta_count: 5, reason: 1 }],
  put: (mine: Belongings): Bound => ["PutProduct", { sku: mine.fresh("p"), title: "A product", price_minor: 100 }],
  stock: (mine: Belongings): Bound => ["AdjustStock", { sku: latest(mine.unlimited, "s0"), delta_count: 9, reason: 5 }],
  sell: (mine: Belongings): Bound => place(mine, 1, { lines: [{ sku: latest(mine.unlimited, "s0"), quantity: 1 }] }),
  limit: (mine: Belongings): Bound => [
    "PutProduct",
    { sku: mine.unlimited.shift() ?? "p", title: "A limited product", price_minor: 100, max_per_user: 50 },
  ],
  createShop: (): Bound => ["CreateShop", { currency_code: "USD" }],
  readStock: (mine: Belongings): Bound => ["GetStock", { sku: mine.dice.from(skus) }],
  readDue: (): Bound => ["GetStock", { sku: dueSku }],
  readUser: (mine: Belongings): Bound => ["GetUser", { user_id: user(mine) }],
  readSubscription: (mine: Belongings): Bound => ["GetSubscription", { user_id: user(mine) }],
  readPending: (mine: Belongings): Bound => ["GetOrder", { order_id: mine.pending[0] ?? "no-order" }],
  readOrder: (mine: Belongings): Bound => ["GetOrder", { order_id: latest(mine.paid, "no-order") }],
} as const;

function latest(ids: readonly string[], otherwise: string): string {
  return ids.at(-1) ?? otherwise;
}

/** What every load has a little of. */
export const everyday: Mix = {
  walletOrder: 10,
  externalOrder: 3,
  cart: 2,
  hold: 3,
  heldOrder: 2,
  extend: 1,
  release: 1,
  confirm: 2,
  cancel: 1,
  refund: 2,
  fulfill: 1,
  deposit: 3,
  withdraw: 2,
  grant: 1,
  createUser: 1,
  updateUser: 1,
  changeTier: 1,
  adjust: 2,
  readStock: 3,
  readUser: 1,
  readOrder: 1,
};

/** The call of a kind. */
export function bind(kind: Kind, mine: Belongings): Call {
  const [rpc, request] = kinds[kind](mine);
  const isRead = rpc.startsWith("Get");
  return {
    rpc,
    request: bodyOf(rpc, request),
    requestId: isRead ? "" : mine.fresh("r"),
    door: mine.dice.from(["grpc", "http"]),
    idBy: "field",
  };
}

/** Notes what an accepted call made, or a read showed. */
export function keep({ rpc, request }: Call, response: Plain, mine: Belongings): void {
  const { state, order_id } = (response.order ?? {}) as { readonly state?: number; readonly order_id?: string };
  if (rpc === "HoldStock") mine.holds.push(request.hold_id as string);
  if (rpc === "ReleaseHold" || request.hold_id === mine.holds.at(-1)) mine.holds.pop();
  if (rpc === "CreateUser") mine.users.push(request.user_id as string);
  if (rpc === "PutProduct" && request.max_per_user === undefined) mine.unlimited.push(request.sku as string);
  if (order_id === undefined) return;
  remove(mine.pending, order_id);
  remove(mine.paid, order_id);
  if (state === 1) mine.pending.push(order_id);
  if (state === 2 || state === 3) mine.paid.push(order_id);
}

function remove(ids: string[], id: string): void {
  const at = ids.indexOf(id);
  if (at >= 0) ids.splice(at, 1);
}
