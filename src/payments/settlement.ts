import { create, type DescMessage } from "@bufbuild/protobuf";
import { RefundSettledSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { CancelOrderRequestSchema, ConfirmOrderRequestSchema } from "../../gen/holdfast/v1/order_service_pb.js";
import { OrderSchema } from "../../gen/holdfast/v1/resources_pb.js";
import { ownPrincipals } from "../auth/identity.ts";
import type { PendingCharge, PendingRefund } from "../postgres/payments.ts";
import type { Mutation } from "../shop/mutation.ts";
import { orderChange } from "../shop/order-change.ts";
import type { Shops } from "../shop/shops.ts";
import type { Caller } from "../shop/waiters.ts";

/** Who the payment worker is in a commit. */
const paymentPrincipal = ownPrincipals.payments;

/** The `cancel_reason` of an order whose charge was declined. */
const declinedReason = "PAYMENT_DECLINED";

/**
 * Writes what the gateway said into the shop. Each resolves when that is durable, also when it was there already, and throws
 * a Refusal when the shop does not take it now.
 */
export interface Settlement {
  /** Makes the order paid. */
  confirm(order: PendingCharge, chargeId: string): Promise<void>;
  /** Cancels the order and gives its units back. */
  cancel(order: PendingCharge): Promise<void>;
  /** Notes that a refund was made. */
  settleRefund(refund: PendingRefund, refundId: string): Promise<void>;
}

/** A thing of one order that the gateway decided. */
interface Plan extends Pick<Mutation, "rpc" | "script" | "args" | "preloads"> {
  readonly requestId?: string;
  readonly request: { readonly desc: DescMessage; readonly message: object };
}

/** Creates the settlement of a process's shops. What waits for a store gives up when `caller` ends. */
export function createSettlement(shops: Shops, caller: Caller): Settlement {
  const { confirmOrder, cancelOrder, settleRefund } = shops.scripts;
  const byWorker = "1";
  const settle = async ({ shopId, orderId }: Pick<PendingCharge, "shopId" | "orderId">, plan: Plan): Promise<void> => {
    await shops.get(shopId).mutate({
      requestId: "",
      ...plan,
      ...orderChange(shopId, orderId),
      principal: paymentPrincipal,
      isLaterStep: true,
      caller,
    });
  };
  return {
    confirm: (order, chargeId) =>
      settle(order, {
        rpc: "ConfirmOrder",
        script: confirmOrder,
        args: [order.orderId, '""', JSON.stringify(chargeId), byWorker],
        request: requestOf(ConfirmOrderRequestSchema, { orderId: order.orderId }),
      }),
    cancel: (order) =>
      settle(order, {
        rpc: "CancelOrder",
        script: cancelOrder,
        args: [order.orderId, JSON.stringify(declinedReason), byWorker],
        request: requestOf(CancelOrderRequestSchema, { orderId: order.orderId, reason: declinedReason }),
      }),
    settleRefund: (refund, refundId) =>
      settle(refund, {
        rpc: "SettleRefund",
        script: settleRefund,
        args: [refund.orderId, refund.refundNumber, refund.amountMinor, JSON.stringify(refundId)],
        preloads: true,
        requestId: settleRequestId(refund),
        request: requestOf(RefundSettledSchema, {
          order: create(OrderSchema, { orderId: refund.orderId }),
          amountMinor: BigInt(refund.amountMinor),
          refundNumber: refund.refundNumber,
          refundId,
        }),
      }),
  };
}

/** Makes the settlement of a refund one commit, whoever repeats it. No caller can use this id before: "/" is in none of theirs. */
function settleRequestId({ orderId, refundNumber }: Pick<PendingRefund, "orderId" | "refundNumber">): string {
  return `settle/${orderId}.refund.${refundNumber}`;
}

function requestOf<Desc extends DescMessage>(desc: Desc, fields: Parameters<typeof create<Desc>>[1]) {
  return { desc, message: create(desc, fields) };
}
