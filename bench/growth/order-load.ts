import { create, toBinary } from "@bufbuild/protobuf";
import { PlaceOrderRequestSchema } from "../../gen/holdfast/v1/order_service_pb.js";
import { PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { makeId } from "../../src/shop/ids.ts";
import type { LoadResult } from "../load.ts";
import { type LoadVolume, loadWithRequests } from "../own-load.ts";
import { orderPath, type Request } from "../workloads.ts";

/** Orders of one unit without payment; shops, SKUs and users are gone through side by side, each list from its start again. */
export interface OrderLoad extends LoadVolume {
  readonly shopIds: readonly string[];
  readonly skus: readonly string[];
  /** Empty: guests. */
  readonly userIds: readonly string[];
}

/** Makes the load, with a request id of its own for every call. */
export function loadOrders({ shopIds, skus, userIds, ...volume }: OrderLoad): Promise<LoadResult> {
  return loadWithRequests(volume, [orderRequests({ shopIds, skus, userIds })]);
}

/** One request for each shop, SKU and user. */
export function orderRequests({
  shopIds,
  skus,
  userIds,
}: Pick<OrderLoad, "shopIds" | "skus" | "userIds">): readonly Request[] {
  const count = Math.max(shopIds.length, skus.length, userIds.length);
  return Array.from({ length: count }, (_, index) => {
    const userId = userIds[index % userIds.length] ?? "";
    return orderOf(shopIds[index % shopIds.length] as string, skus[index % skus.length] as string, userId);
  });
}

function orderOf(shopId: string, sku: string, userId: string): Request {
  const requestId = makeId();
  const paymentMethod = PaymentMethod.NONE;
  const order = create(PlaceOrderRequestSchema, {
    shopId,
    requestId,
    userId,
    lines: [{ sku, quantity: 1 }],
    paymentMethod,
  });
  return { path: orderPath, message: toBinary(PlaceOrderRequestSchema, order), ids: [requestId] };
}
