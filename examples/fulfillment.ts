// Fulfils every order that was paid.
//
// usage: node examples/fulfillment.ts
import { createHash } from "node:crypto";
import type { Event } from "../gen/holdfast/v1/event_service_pb.js";
import { OrderState } from "../gen/holdfast/v1/resources_pb.js";
import { callTimeoutMs, reasonOf, runWorker } from "./work-queue.ts";

const name = "fulfillment";

await runWorker({
  name,
  eventTypes: ["order_placed", "order_confirmed"],
  steps: [
    async (event, { shopId, orders }) => {
      const orderId = paidOrderIdOf(event);
      if (orderId === undefined) {
        return;
      }
      // One order, one request id: however often this is repeated, Holdfast does it once.
      const requestId = createHash("sha256").update(`fulfil ${orderId}`).digest("hex");
      const request = { shopId, requestId, orderId, reference: `parcel of ${orderId}` };
      try {
        const { commit } = await orders.fulfillOrder(request, { timeoutMs: callTimeoutMs });
        console.log(`${name}: ${orderId}: ${commit?.replayed === true ? "was fulfilled already" : "fulfilled"}`);
      } catch (error) {
        if (reasonOf(error) !== "ORDER_STATE_INVALID") {
          throw error;
        }
        console.log(`${name}: ${orderId}: nothing to do any more`); // refunded, or fulfilled by somebody else
      }
    },
  ],
});

/** The order that became PAID with this event. */
function paidOrderIdOf({ payload }: Event): string | undefined {
  if (payload.case !== "orderPlaced" && payload.case !== "orderConfirmed") {
    return undefined;
  }
  const { order } = payload.value;
  return order?.state === OrderState.PAID ? order.orderId : undefined;
}
