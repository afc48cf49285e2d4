import { createClient, type Transport } from "@connectrpc/connect";
import { AdminService, RebuildMode } from "../gen/holdfast/v1/admin_service_pb.js";
import { refusalOf } from "./client/refusals.ts";
import { StartError } from "./start-error.ts";

/** What `holdfast rebuild` takes. */
export interface RebuildArguments {
  /** To the gRPC door of the server. */
  readonly transport: Transport;
  /** The shop; default `default`. */
  readonly shop?: string;
  /** Lets go of what the live log holds from the first commit on that PostgreSQL cannot record. */
  readonly "discard-unrecorded"?: boolean;
  /** Also accepts that commits which PostgreSQL had are lost. */
  readonly "accept-loss"?: boolean;
}

/** Has a server rebuild a shop's live state, and prints how far it is. docs/fences.md says when to use which option. */
export async function runRebuild({ transport, shop = "default", ...options }: RebuildArguments): Promise<void> {
  const client = createClient(AdminService, transport);
  let isDone = false;
  const mode = modeOf(options);
  try {
    for await (const { epoch, loadedCount, totalCount, done } of client.rebuildShop({ shopId: shop, mode })) {
      isDone = done;
      const what = done ? `rebuilt in epoch ${epoch}` : `${loadedCount} of ${totalCount} rows loaded`;
      process.stderr.write(`holdfast: shop "${shop}": ${what}\n`);
    }
  } catch (error) {
    throw refusalOf(error)?.reason === "SHOP_FENCED" ? new StartError(`${String(error)}; ${waysOut}`) : error;
  }
  if (!isDone) {
    throw new StartError(`the rebuild of shop "${shop}" was cut off; it goes on in the server`);
  }
}

const waysOut = "docs/fences.md has the ways out, and what --accept-loss and --discard-unrecorded let go of";

function modeOf(options: Omit<RebuildArguments, "transport" | "shop">): RebuildMode {
  const { "discard-unrecorded": discards = false, "accept-loss": accepts = false } = options;
  if (discards && accepts) {
    throw new StartError("--accept-loss also discards what is unrecorded: give one of the two");
  }
  return accepts ? RebuildMode.ACCEPT_LOSS : discards ? RebuildMode.DISCARD_UNRECORDED : RebuildMode.UNSPECIFIED;
}
