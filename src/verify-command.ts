import { createClient, type Transport } from "@connectrpc/connect";
import { AdminService, type Discrepancy, Store } from "../gen/holdfast/v1/admin_service_pb.js";
import { StartError } from "./start-error.ts";

/** What `holdfast verify` takes. */
export interface VerifyArguments {
  /** To the gRPC door of the server. */
  readonly transport: Transport;
  /** The shop; default `default`. */
  readonly shop?: string;
}

/** Has a server verify a shop; prints what does not agree, one per line. Returns the exit code: 1 when there is anything. */
export async function runVerify({ transport, shop = "default" }: VerifyArguments): Promise<number> {
  const client = createClient(AdminService, transport);
  let discrepancyCount = 0;
  let isDone = false;
  let checkedCount = 0n;
  for await (const message of client.verifyShop({ shopId: shop })) {
    for (const discrepancy of message.discrepancies) {
      process.stdout.write(`${lineOf(discrepancy)}\n`);
    }
    discrepancyCount += message.discrepancies.length;
    checkedCount = message.checkedCount;
    isDone = message.done;
  }
  if (!isDone) {
    throw new StartError(`the verification of shop "${shop}" was cut off`);
  }
  const found = discrepancyCount === 1 ? "1 discrepancy" : `${discrepancyCount} discrepancies`;
  process.stderr.write(`holdfast: shop "${shop}": ${checkedCount} facts compared, ${found}\n`);
  return discrepancyCount === 0 ? 0 : 1;
}

/** `STOCK_LEVEL sku:ps5 REDIS position 17: expected "ps5:available=5", found "ps5:available=6"` */
function lineOf({ kind, subject, store, position, expected, found }: Discrepancy): string {
  const sides = `expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`;
  return `${kind} ${subject} ${Store[store]} position ${position}: ${sides}`;
}
