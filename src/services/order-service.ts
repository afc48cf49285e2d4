import { create } from "@bufbuild/protobuf";
import * as pb from "../../gen/holdfast/v1/order_service_pb.js";
import { OrderSchema, OrderState, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { findOrder, listOrders } from "../postgres/orders.ts";
import { findUser } from "../postgres/users.ts";
import type { CallContext, Handlers } from "../server/call-context.ts";
import { makeId, shopIdOf } from "../shop/ids.ts";
import { orderChange } from "../shop/order-change.ts";
import type { Deps } from "./deps.ts";
import { endedHold } from "./ended-hold.ts";
import { cartArguments } from "./inventory-service.ts";
import { type MutationPlan, mutate, readPoint, respond } from "./mutate.ts";
import { messageFromRow, readEnding, readList, required } from "./read.ts";

/** OrderService: sells, and sees orders through to their end. An unpaid order waits as long as a hold lasts. */
export function createOrderService({ shops, pages, holdMs }: Deps): Handlers<typeof pb.OrderService> {
  const { scripts } = shops;

  /** Changes an order that exists. */
  const change = (
    req: { readonly shopId: string; readonly requestId: string; readonly orderId: string },
    ctx: CallContext,
    plan: Pick<MutationPlan, "script" | "args" | "preloads">,
  ) =>
    mutate(shops, req, ctx, {
      ...plan,
      ...orderChange(shopIdOf(req), req.orderId),
      args: [req.orderId, ...plan.args],
      isLaterStep: true,
    });

  return {
    async placeOrder(req, ctx) {
      const orderId = req.orderId === "" ? makeId() : req.orderId;
      const payment = req.paymentMethod === PaymentMethod.UNSPECIFIED ? PaymentMethod.WALLET : req.paymentMethod;
      const committed = await mutate(shops, req, ctx, {
        script: scripts.placeOrder,
        args: [orderId, req.userId, payment, req.holdId, holdMs, ...cartArguments(req.lines)],
        ids: req.holdId === "" ? [orderId] : [orderId, req.holdId],
        lookUp: async (db) => {
          const order = await findOrder(db, shopIdOf(req), orderId);
          if (order !== undefined || req.holdId === "") {
            return order?.create_position;
          }
          // Whether the user exists is decided before what became of the hold; the script refuses an unknown one.
          const hasBuyer = req.userId === "" || (await findUser(db, shopIdOf(req), req.userId)) !== undefined;
          return hasBuyer ? endedHold(db, shopIdOf(req), req.holdId, false) : undefined;
        },
        existsReason: "ORDER_EXISTS",
        existsMetadata: { order_id: orderId },
        isLaterStep: req.holdId !== "",
      });
      return respond(pb.PlaceOrderResponseSchema, committed, "order_placed");
    },

    async confirmOrder(req, ctx) {
      const committed = await change(req, ctx, {
        script: scripts.confirmOrder,
        args: [JSON.stringify(req.paymentReference), '""', 0],
      });
      return respond(pb.ConfirmOrderResponseSchema, committed, "order_confirmed");
    },

    async cancelOrder(req, ctx) {
      const committed = await change(req, ctx, {
        script: scripts.cancelOrder,
        args: [JSON.stringify(req.reason), 0],
      });
      return respond(pb.CancelOrderResponseSchema, committed, "order_cancelled");
    },

    async refundOrder(req, ctx) {
      const units = req.restockLines.flatMap(({ sku, quantity }) => [sku, quantity]);
      const committed = await change(req, ctx, {
        script: scripts.refundOrder,
        args: [req.amountMinor?.toString() ?? "", JSON.stringify(req.reason), Number(req.restock), ...units],
        preloads: true,
      });
      return respond(pb.RefundOrderResponseSchema, committed, "order_refunded");
    },

    async fulfillOrder(req, ctx) {
      const committed = await change(req, ctx, {
        script: scripts.fulfillOrder,
        args: [JSON.stringify(req.reference)],
        preloads: true,
      });
      return respond(pb.FulfillOrderResponseSchema, committed, "order_fulfilled");
    },

    async getOrder(req, ctx) {
      const due = { holdId: `order/${req.orderId}` };
      const endDue = () => shops.get(shopIdOf(req)).read(scripts.getOrder, [req.orderId], due, ctx, true);
      const found = await readEnding(shops, req, ctx, endDue, async (db, shopId) => {
        const order = await findOrder(db, shopId, req.orderId);
        const isPending = order?.state === OrderState.PENDING_PAYMENT;
        return { value: order, dueTime: (isPending && order.expire_time) || undefined };
      });
      const row = required(found, "ORDER_NOT_FOUND", "order", req.orderId);
      return create(pb.GetOrderResponseSchema, { order: messageFromRow(OrderSchema, row), asOf: readPoint(found) });
    },

    async listOrders(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req), req.userId, String(req.state));
      const { value: rows } = await readList(shops, req, ctx, (db, shopId) =>
        listOrders(db, shopId, req, page.before, page.readCount),
      );
      const { shown, nextPageToken } = page.show(rows, ({ create_position }) => create_position);
      const orders = shown.map((row) => messageFromRow(OrderSchema, row));
      return create(pb.ListOrdersResponseSchema, { orders, nextPageToken });
    },
  };
}
