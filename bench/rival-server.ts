import { fromBinary } from "@bufbuild/protobuf";
import { HoldStockRequestSchema } from "../gen/holdfast/v1/inventory_service_pb.js";
import { PlaceOrderRequestSchema } from "../gen/holdfast/v1/order_service_pb.js";
import { type CartLine, PaymentMethod } from "../gen/holdfast/v1/resources_pb.js";
import { makeId } from "../src/shop/ids.ts";
import { answerParent } from "./child.ts";
import type { Outcome, Purchase, Rival, RivalOptions } from "./rivals/rival.ts";
import { type RivalName, rivals } from "./rivals/rivals.ts";
import { serveBytes, type Work } from "./serve-bytes.ts";
import { holdPath, orderPath } from "./workloads.ts";

/** What the server is asked for, in this order. */
export type RivalServerRequest =
  /** Answers with the port. */
  | { readonly kind: "serve"; readonly rival: RivalName; readonly response: Uint8Array }
  /** Opens the connections to the stores. */
  | ({ readonly kind: "open" } & RivalOptions)
  /** Waits until nothing is in flight. */
  | { readonly kind: "settle" }
  /** Closes the connections. */
  | { readonly kind: "close" };

let name: RivalName;
let rival: Rival | undefined;
let inFlightCount = 0;
let onIdle = (): void => {};

answerParent<RivalServerRequest>(async (request) => {
  switch (request.kind) {
    case "serve":
      name = request.rival;
      return serveBytes({ [orderPath]: counted(placeOrder), [holdPath]: counted(holdStock) }, request.response);
    case "open":
      rival = await rivals[name](request);
      return undefined;
    case "settle":
      return settle();
    case "close":
      await settle();
      await rival?.close();
      rival = undefined;
      return undefined;
  }
});

async function settle(): Promise<void> {
  if (inFlightCount > 0) {
    await new Promise<void>((resolve) => {
      onIdle = resolve;
    });
  }
}

function counted(work: Work): Work {
  return async (bytes) => {
    inFlightCount += 1;
    try {
      return await work(bytes);
    } finally {
      inFlightCount -= 1;
      if (inFlightCount === 0) {
        onIdle();
      }
    }
  };
}

function placeOrder(bytes: Buffer): Promise<Outcome> {
  const { requestId, userId, lines, holdId, paymentMethod } = fromBinary(PlaceOrderRequestSchema, bytes);
  const payer = paymentMethod === PaymentMethod.WALLET ? userId : null;
  const purchase = { orderId: makeId(), requestId: requestId || makeId(), userId: payer, holdId, ...linesOf(lines) };
  return holdId === "" ? open().buy(purchase) : served(open().buyHeld, purchase);
}

function holdStock(bytes: Buffer): Promise<Outcome> {
  const { requestId, holdId, lines } = fromBinary(HoldStockRequestSchema, bytes);
  const purchase = { orderId: "", requestId: requestId || makeId(), userId: null, holdId, ...linesOf(lines) };
  return served(open().hold, purchase);
}

function open(): Rival {
  if (rival === undefined) {
    throw new Error("the rival has no connections");
  }
  return rival;
}

function served(method: Rival["hold"], purchase: Purchase): Promise<Outcome> {
  if (method === undefined) {
    throw new Error(`${name} holds nothing`);
  }
  return method(purchase);
}

/** Sorted and summed up per SKU. */
function linesOf(lines: readonly CartLine[]): Pick<Purchase, "skus" | "quantities"> {
  const [first] = lines;
  if (first !== undefined && lines.length === 1) {
    return { skus: [first.sku], quantities: [first.quantity] };
  }
  const sums = new Map<string, number>();
  for (const { sku, quantity } of lines) {
    sums.set(sku, (sums.get(sku) ?? 0) + quantity);
  }
  const skus = [...sums.keys()].sort();
  return { skus, quantities: skus.map((sku) => sums.get(sku) as number) };
}
