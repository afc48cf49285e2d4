import { create } from "@bufbuild/protobuf";
import * as pb from "../../gen/holdfast/v1/order_service_pb.js";
import { OrderSchema, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { findOrder } from "../postgres/orders.ts";
import type { Handlers } from "../server/call-context.ts";
import { makeId } from "../shop/ids.ts";
import { type Deps, shopIdOf } from "./deps.ts";
import { endedHold } from "./ended-hold.ts";
import { cartArguments } from "./inventory-service.ts";
import { mutate, readPoint, respond } from "./mutate.ts";
import { messageFromRow, readRecord, required } from "./read.ts";

/** OrderService: sells. */
export function createOrderService({ shops }: Deps): Handlers<typeof pb.OrderService> {
  return {
    async placeOrder(req, ctx) {
      const orderId = req.orderId === "" ? makeId() : req.orderId;
      const payment = req.paymentMethod === PaymentMethod.UNSPECIFIED ? PaymentMethod.WALLET : req.paymentMethod;
      const committed = await mutate(shops, req, ctx, {
        script: shops.scripts.placeOrder,
        args: [orderId, req.userId, payment, req.holdId, ...cartArguments(req.lines)],
        ids: req.holdId === "" ? [orderId] : [orderId, req.holdId],
        lookUp: async (db) => {
          const order = await findOrder(db, shopIdOf(req), orderId);
          return (
            order?.create_position ?? (req.holdId === "" ? undefined : endedHold(db, shopIdOf(req), req.holdId, false))
          );
        },
        existsReason: "ORDER_EXISTS",
      });
      return respond(pb.PlaceOrderResponseSchema, committed, "order_placed");
    },

    async getOrder(req, ctx) {
      const found = await readRecord(shops, req, ctx, (db, shopId) => findOrder(db, shopId, req.orderId));
      const row = required(found, "ORDER_NOT_FOUND", "order", req.orderId);
      return create(pb.GetOrderResponseSchema, { order: messageFromRow(OrderSchema, row), asOf: readPoint(found) });
    },
  };
}
