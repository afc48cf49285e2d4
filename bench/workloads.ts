import { create, toBinary } from "@bufbuild/protobuf";
import { HoldStockRequestSchema, InventoryService } from "../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService, PlaceOrderRequestSchema } from "../gen/holdfast/v1/order_service_pb.js";
import { PaymentMethod } from "../gen/holdfast/v1/resources_pb.js";
import { makeId } from "../src/shop/ids.ts";
import { catalogueSkus, goneSku, hotSku, lastSku, shopId, userIds } from "./sale.ts";

/** The RPCs that are called. */
export const orderPath = `/${OrderService.typeName}/${OrderService.method.placeOrder.name}`;
export const holdPath = `/${InventoryService.typeName}/${InventoryService.method.holdStock.name}`;

/** One serialised request. */
export interface Request {
  readonly path: string;
  readonly message: Uint8Array;
  /** Ids in the message; the last 12 digits of each differ from call to call. */
  readonly ids: readonly string[];
}

/** What callers do. */
export interface Workload {
  readonly title: string;
  readonly about: string;
  /** Units in one purchase. */
  readonly unitCount: number;
  /** RPCs in a row that make one purchase, each with the requests that calls take in turn. */
  steps(): readonly (readonly Request[])[];
}

const cartLineCount = 10;
const storm = { sold: 1, refused: 19 };

/** By name. */
export const workloads = {
  hot: {
    title: "One hot SKU",
    about: "One unit of the same SKU for a guest, the same request every time: the server gives it a request id.",
    unitCount: 1,
    steps: () => [[orderOf([hotSku], { hasId: false })]],
  },
  wallet: {
    title: "One hot SKU, paid from wallets",
    about: "One unit of the same SKU, paid by one of 1,000 users in turn; every call brings a request id of its own.",
    unitCount: 1,
    steps: () => [userIds.map((userId) => orderOf([hotSku], { userId }))],
  },
  skus: {
    title: "1,000 SKUs",
    about: "One unit of one of 1,000 SKUs in turn, each call with a request id of its own.",
    unitCount: 1,
    steps: () => [catalogueSkus.map((sku) => orderOf([sku]))],
  },
  storm: {
    title: "Sold-out storm",
    about: "19 of 20 calls want a SKU that is sold out and are refused; the others buy the hot one.",
    unitCount: 1,
    steps: () => [
      [
        ...Array.from({ length: storm.sold }, () => orderOf([hotSku])),
        ...Array.from({ length: storm.refused }, () => orderOf([goneSku])),
      ],
    ],
  },
  cart: {
    title: "Cart of 10",
    about: "One unit each of 10 of 1,000 SKUs, all or nothing; 1,000 different carts in turn.",
    unitCount: cartLineCount,
    steps: () => [catalogueSkus.map((_, index) => orderOf(cartOf(index)))],
  },
  hold: {
    title: "Hold, then order",
    about: "Two calls per purchase: one unit of the hot SKU is held, then the hold is bought.",
    unitCount: 1,
    steps: () => {
      const holdId = makeId();
      return [[holdOf(hotSku, holdId)], [orderOf([], { holdId })]];
    },
  },
  last: {
    title: "The last units",
    about: "256 callers at a time, 1,000 in all, want the last 200 units.",
    unitCount: 1,
    steps: () => [[orderOf([lastSku])]],
  },
} satisfies Record<string, Workload>;

/** The name of one. */
export type WorkloadName = keyof typeof workloads;

/** Different SKUs, spread over the catalogue. */
function cartOf(index: number): readonly string[] {
  const stride = 97;
  return Array.from(
    { length: cartLineCount },
    (_, line) => catalogueSkus[(index + line * stride) % catalogueSkus.length] as string,
  );
}

/** One unit of each SKU, or what a hold holds. Request ids carry their time, as a careful caller's do. */
function orderOf(skus: readonly string[], { userId = "", holdId = "", hasId = true } = {}): Request {
  const requestId = hasId ? makeId() : "";
  const order = create(PlaceOrderRequestSchema, {
    shopId,
    requestId,
    userId,
    holdId,
    lines: skus.map((sku) => ({ sku, quantity: 1 })),
    paymentMethod: userId === "" ? PaymentMethod.NONE : PaymentMethod.WALLET,
  });
  const ids = [requestId, holdId].filter((id) => id !== "");
  return { path: orderPath, message: toBinary(PlaceOrderRequestSchema, order), ids };
}

function holdOf(sku: string, holdId: string): Request {
  const requestId = makeId();
  const hold = create(HoldStockRequestSchema, { shopId, requestId, holdId, lines: [{ sku, quantity: 1 }] });
  return { path: holdPath, message: toBinary(HoldStockRequestSchema, hold), ids: [requestId, holdId] };
}
