import { OrderState } from "../../gen/holdfast/v1/resources_pb.js";
import { readOrderRecord } from "../postgres/orders.ts";
import type { Mutation } from "./mutation.ts";

/**
 * What every change of an order that exists has in common: the row that its script asks for, and the refusal of a state that
 * another body has reached. That names the state the order is in by now, and where it was seen so: only a script that had
 * the row answers so.
 */
export function orderChange(
  shopId: string,
  orderId: string,
): Pick<Mutation, "record" | "existsReason" | "existsMetadata"> {
  const existsMetadata: Record<string, string> = { order_id: orderId };
  return {
    async record(db) {
      const record = await readOrderRecord(db, shopId, orderId);
      Object.assign(existsMetadata, {
        state: OrderState[record.row?.state ?? OrderState.UNSPECIFIED],
        position: String(record.asOf),
        epoch: String(record.epoch),
        ...(record.row?.cancel_reason ? { cancel_reason: record.row.cancel_reason } : {}),
      });
      return record;
    },
    existsReason: "ORDER_STATE_INVALID",
    existsMetadata,
  };
}
