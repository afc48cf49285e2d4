import type { DescMethod } from "@bufbuild/protobuf";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { answer, type Context, type Decide, type Decision, type Refused, refuse, refuseField } from "./decision.ts";
import * as inventory from "./inventory.ts";
import * as orders from "./orders.ts";
import { differences, normalise, type Plain } from "./plain.ts";
import { type Hold, type Order, type Shop, type User, unfinishedItems } from "./state.ts";
import * as subscriptions from "./subscriptions.ts";
import * as users from "./users.ts";

/** The services of the contract, by the names that clients have. */
export const services = {
  inventory: InventoryService,
  orders: OrderService,
  users: UserService,
  subscriptions: SubscriptionService,
  events: EventService,
  admin: AdminService,
} as const;

/** One call of a caller. */
export interface Call {
  readonly rpc: string;
  /** Without shop and request id, as {@link normalise} makes it. */
  readonly request: Plain;
  readonly requestId: string;
  readonly door: "grpc" | "http";
  /** How the request id is sent; `conflict`: another one in the header; `retried`: none, by a client's automatic retry. */
  readonly idBy: "field" | "header" | "conflict" | "retried";
  /** The field of a request that breaks a rule, and which the refusal must name. */
  readonly badField?: string;
  /** The call goes to a shop that does not exist. */
  readonly toNobody?: boolean;
}

/** What the model knows of an RPC. */
interface Rpc {
  readonly decide: Decide;
  /** What the request alone is refused for, before anybody looks whether its id is known. */
  readonly check?: (request: Plain) => Refused | undefined;
  /** The RPC makes a commit. */
  readonly mutates?: true;
  /** The RPC makes something by an id: where such a thing was made, and what another body is refused with. */
  readonly makes?: { readonly field: string; readonly reason: string; readonly madeAt: MadeAt };
}

type MadeAt = (shop: Shop, id: string) => number | undefined;

/** Items on a page that names no size. */
const defaultPageSize = 50;

/** A list: the first page of what there is. Calls that bring a token bring one of another list. */
function list(field: string, items: (shop: Shop, request: Plain) => readonly Plain[]): Decide {
  return (shop, request, context) => {
    const { page_size = 0 } = request as { readonly page_size?: number };
    if (field === "entries" && !shop.users.has(request.user_id as string)) return refuse("USER_NOT_FOUND");
    const all = items(shop, request);
    const page = all.slice(0, page_size === 0 ? defaultPageSize : page_size);
    return answer({
      [field]: page,
      ...(page.length < all.length && { next_page_token: context.made("next_page_token") }),
    });
  };
}

function madeIn<Thing extends Hold | Order | User>(things: (shop: Shop) => Map<string, Thing>): MadeAt {
  return (shop, id) => things(shop).get(id)?.createPosition;
}

const createShop: Decide = () => {
  throw new Error("a shop is created once");
};

/** Every RPC of the model that one call and one answer are enough for. */
export const lists = {
  ListProducts: { field: "products", items: inventory.listProducts },
  ListHolds: { field: "holds", items: inventory.listHolds },
  ListOrders: { field: "orders", items: orders.listOrders },
  ListUsers: { field: "users", items: users.listUsers },
  ListWalletEntries: { field: "entries", items: users.listWalletEntries },
  ListTiers: { field: "tiers", items: subscriptions.listTiers },
  ListTierChanges: { field: "changes", items: subscriptions.listTierChanges },
  ListSkuStats: { field: "sku_stats", items: listSkuStats },
} as const satisfies Record<string, { field: string; items: (shop: Shop, request: Plain) => Plain[] }>;

/** The model's RPCs; `quotes` are those that PreviewTierChange gave out. */
export function createRpcs(quotes: subscriptions.Quotes): Readonly<Record<string, Rpc>> {
  return {
    PutProduct: { decide: inventory.putProduct, mutates: true },
    AdjustStock: { decide: inventory.adjustStock, mutates: true },
    HoldStock: {
      decide: inventory.holdStock,
      mutates: true,
      makes: { field: "hold_id", reason: "HOLD_EXISTS", madeAt: madeIn((shop) => shop.holds) },
    },
    ExtendHold: { decide: inventory.extendHold, mutates: true },
    ReleaseHold: { decide: inventory.releaseHold, mutates: true },
    GetProduct: { decide: inventory.getProduct },
    GetStock: { decide: inventory.getStock },
    BatchGetStock: { decide: inventory.batchGetStock },
    GetHold: { decide: inventory.getHold },
    PlaceOrder: {
      decide: orders.placeOrder,
      mutates: true,
      makes: { field: "order_id", reason: "ORDER_EXISTS", madeAt: madeIn((shop) => shop.orders) },
    },
    ConfirmOrder: { decide: orders.confirmOrder, mutates: true },
    CancelOrder: { decide: orders.cancelOrder, mutates: true },
    RefundOrder: { decide: orders.refundOrder, mutates: true },
    FulfillOrder: { decide: orders.fulfillOrder, mutates: true },
    GetOrder: { decide: orders.getOrder },
    CreateUser: {
      decide: users.createUser,
      mutates: true,
      makes: { field: "user_id", reason: "USER_EXISTS", madeAt: madeIn((shop) => shop.users) },
    },
    UpdateUser: { decide: users.updateUser, mutates: true },
    DepositFunds: { decide: users.depositFunds, mutates: true },
    WithdrawFunds: { decide: users.withdrawFunds, mutates: true },
    GrantCredits: { decide: users.grantCredits, mutates: true },
    GetUser: { decide: users.getUser },
    LookupUser: { decide: users.lookupUser },
    PutTier: { decide: subscriptions.putTier, mutates: true },
    ChangeTier: {
      decide: subscriptions.createChangeTier(quotes),
      check: subscriptions.createQuoteCheck(quotes),
      mutates: true,
    },
    CancelScheduledChange: { decide: subscriptions.cancelScheduledChange, mutates: true },
    GetSubscription: { decide: subscriptions.getSubscription },
    PreviewTierChange: { decide: subscriptions.createPreview(quotes) },
    CreateShop: {
      decide: createShop,
      mutates: true,
      makes: { field: "shop_id", reason: "SHOP_EXISTS", madeAt: () => 1 },
    },
    GetShop: { decide: getShop },
    GetShopStats: { decide: getShopStats },
    ...Object.fromEntries(
      Object.entries(lists).map(([name, { field, items }]) => [name, { decide: list(field, items) }]),
    ),
  };
}

/** Every method of the contract by its RPC's name, and whose client has it. */
export const methods: ReadonlyMap<string, { readonly method: DescMethod; readonly client: keyof typeof services }> =
  new Map(
    Object.entries(services).flatMap(([client, service]) =>
      service.methods.map((method) => [method.name, { method, client: client as keyof typeof services }] as const),
    ),
  );

/** Whether an RPC takes a request id. */
export function mutates(rpc: string): boolean {
  return methods.get(rpc)?.method.input.fields.some(({ name }) => name === "request_id") === true;
}

/** What a call is answered when the shop is as it is in the model. */
export function decide(rpcs: Readonly<Record<string, Rpc>>, shop: Shop, call: Call, context: Context): Decision {
  const rpc = rpcs[call.rpc] as Rpc;
  if (call.badField !== undefined) return refuseField(call.badField);
  if ((call.request.page_token ?? "") !== "") return refuseField("page_token");
  if (breaksMessageRule(call)) return refuseField("");
  if (call.idBy === "conflict") return refuseField("request_id");
  if (call.idBy === "retried") return refuse("REQUEST_ID_REQUIRED");
  if (call.toNobody === true) return refuse("SHOP_NOT_FOUND");
  const refusal = rpc.check?.(call.request);
  if (refusal !== undefined) return refusal;
  if (rpc.mutates === undefined) return rpc.decide(shop, call.request, context);
  const known = shop.requestIds.get(call.requestId);
  if (known !== undefined) return repeat(shop, call, known, "REQUEST_ID_REUSED");
  const id = rpc.makes === undefined ? "" : ((call.request[rpc.makes.field] as string | undefined) ?? "");
  const madeAt = id === "" && call.rpc !== "CreateShop" ? undefined : rpc.makes?.madeAt(shop, id);
  if (rpc.makes !== undefined && madeAt !== undefined) return repeat(shop, call, madeAt, rpc.makes.reason);
  return rpc.decide(shop, call.request, context);
}

/** Whether the fields of a request, each right by itself, do not go together. */
function breaksMessageRule({ rpc, request }: Call): boolean {
  const {
    sale_start_time = 0,
    sale_end_time = 0,
    restock,
    restock_lines,
  } = request as {
    readonly sale_start_time?: number;
    readonly sale_end_time?: number;
    readonly restock?: boolean;
    readonly restock_lines?: unknown;
  };
  if (rpc === "PutProduct") return sale_start_time > 0 && sale_end_time > 0 && sale_end_time <= sale_start_time;
  return rpc === "RefundOrder" && restock === true && restock_lines !== undefined;
}

/** The answer to a call whose id stands for an earlier commit. */
function repeat(shop: Shop, call: Call, position: number, reason: string): Decision {
  const past = shop.calls.get(position);
  if (past === undefined) throw new Error(`no caller made commit ${position}`);
  if (past.rpc !== call.rpc) return refuse(reason, { fieldIn: ["rpc"] });
  const fieldIn = differences(past.body, call.request);
  return fieldIn.length > 0 ? refuse(reason, { fieldIn }) : { kind: "replayed", position };
}

/** The body of a call in the form in which two are compared. */
export function bodyOf(rpc: string, request: Plain): Plain {
  return normalise((methods.get(rpc) as { method: DescMethod }).method.input, request);
}

function getShop(shop: Shop, _: Plain, { answer: given }: Context): Decision {
  const { epoch, head_position, durable_position } = (given?.shop ?? {}) as Plain;
  const unfinished = unfinishedItems(shop);
  const message = {
    shop_id: shop.shopId,
    currency_code: shop.currencyCode,
    create_time: shop.createTime,
    // Where the log is by now is as true as where it was.
    epoch,
    head_position,
    durable_position,
    product_count: shop.products.size,
    user_count: shop.users.size,
    open_hold_count: unfinished.filter((item) => !("method" in item)).length,
    open_order_count: unfinished.filter((item) => "method" in item).length,
  };
  return answer({ shop: message });
}

function getShopStats(shop: Shop): Decision {
  const { stats } = shop;
  const onTiers = Map.groupBy(shop.users.values(), ({ subscription }) => subscription.tier);
  const tiers = [...onTiers].map(([tier, members]) => ({ tier, user_count: members.length }));
  const message = {
    user_count: shop.users.size,
    order_count: stats.orders,
    item_count: stats.items,
    revenue_minor: stats.revenue,
    refunded_minor: stats.refunded,
    upgrade_credits: stats.upgradeCredits,
    downgrade_credits: stats.downgradeCredits,
    tiers: tiers.sort(inventory.byName(({ tier }) => tier)),
  };
  return answer({ stats: message });
}

function listSkuStats(shop: Shop): Plain[] {
  const products = [...shop.products.values()].sort(inventory.byName(({ sku }) => sku));
  return products.map(({ sku, sales }) => ({
    sku,
    order_count: sales.orders,
    unit_count: sales.units,
    revenue_minor: sales.revenue,
  }));
}
