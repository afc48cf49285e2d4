// Tells users of their orders: paid, refunded, cancelled. By e-mail, and by text message when SMS_URL is set: the message
// is posted there as JSON {"user_id", "text"}, with the header idempotency-key.
//
// usage: SMTP_URL=smtp://127.0.0.1:2525 [SMS_URL=http://host/path] node examples/order-mail.ts
import type { Event } from "../gen/holdfast/v1/event_service_pb.js";
import { type Order, OrderState } from "../gen/holdfast/v1/resources_pb.js";
import { createMailer } from "./mailer.ts";
import { callTimeoutMs, type Holdfast, runWorker, type Step } from "./work-queue.ts";

const name = "order-mail";
const mailer = createMailer(name);
const smsUrl = process.env.SMS_URL ?? "";

/** What a user is told. */
interface Notice {
  readonly userId: string;
  readonly subject: string;
  readonly text: string;
}

await runWorker({
  name,
  eventTypes: ["order_placed", "order_confirmed", "order_refunded", "order_cancelled"],
  steps: [
    notify(mailer.send),
    notify(async ({ userId, text }, event, { shopId }) => {
      if (smsUrl !== "") {
        const id = `${shopId}.${event.position}.${event.index}`;
        await post(smsUrl, { user_id: userId, text }, id);
        console.log(`${name}: text message to ${userId}`);
      }
    }),
  ],
  close: mailer.close,
});

/** A step for events that a user is told of; guests are told of nothing. */
function notify(tell: (notice: Notice, event: Event, holdfast: Holdfast) => Promise<void>): Step {
  return async (event, holdfast) => {
    const notice = await noticeOf(event, holdfast);
    if (notice !== undefined && notice.userId !== "") {
      await tell(notice, event, holdfast);
    }
  };
}

async function noticeOf({ payload }: Event, holdfast: Holdfast): Promise<Notice | undefined> {
  const about = (order: Order | undefined, what: string): Notice => ({
    userId: order?.userId ?? "",
    subject: `Your order ${order?.orderId}`,
    text: `Your order ${order?.orderId} ${what}`,
  });
  switch (payload.case) {
    case "orderPlaced":
    case "orderConfirmed": {
      const { order } = payload.value;
      // An order that waits for its payment is told of when it is confirmed.
      return order?.state === OrderState.PAID
        ? about(order, `is paid: ${await formatMoney(order.amountMinor, holdfast)} for ${describe(order)}.`)
        : undefined;
    }
    case "orderRefunded": {
      const { order, amountMinor } = payload.value;
      return about(order, `was refunded: ${await formatMoney(amountMinor, holdfast)}.`);
    }
    case "orderCancelled":
      return about(payload.value.order, `was cancelled${whyCancelled(payload.value.order)}.`);
    default:
      return undefined;
  }
}

/** Holdfast's own reasons, in a buyer's words. Another reason is the shop's note for itself: a buyer is not told of it. */
function whyCancelled(order: Order | undefined): string {
  switch (order?.cancelReason) {
    case "EXPIRED":
      return ": it was not paid in time";
    case "PAYMENT_DECLINED":
      return ": the payment was declined";
    default:
      return "";
  }
}

function describe({ lines }: Order): string {
  return lines.map(({ quantity, sku }) => `${quantity} x ${sku}`).join(", ");
}

/** An amount in minor units, in the shop's currency. */
async function formatMoney(minor: bigint, { shopId, admin }: Holdfast): Promise<string> {
  const { shop } = await admin.getShop({ shopId }, { timeoutMs: callTimeoutMs });
  const format = new Intl.NumberFormat("en", { style: "currency", currency: shop?.currencyCode ?? "USD" });
  return format.format(Number(minor) / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}

async function post(url: string, body: object, id: string): Promise<void> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", "idempotency-key": id },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(callTimeoutMs),
  });
  await response.arrayBuffer(); // frees the connection
  if (!response.ok) {
    throw new Error(`${url} answered ${response.status}`);
  }
}
