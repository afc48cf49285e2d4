import { toJson } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { EventBatchSchema, EventService } from "../gen/holdfast/v1/event_service_pb.js";
import { StartError } from "./start-error.ts";

/** What `holdfast watch` takes. */
export interface WatchArguments {
  /** To the gRPC door of the server. */
  readonly transport: Transport;
  /** The shop; default `default`. */
  readonly shop?: string;
  /** Position after which to begin; default 0, the beginning. */
  readonly after?: string;
}

/** Prints commits as JSON, one per line, until the server ends the watch or the process is interrupted. */
export async function runWatch({ transport, shop = "default", after = "0" }: WatchArguments): Promise<void> {
  if (!/^\d{1,15}$/.test(after)) {
    throw new StartError(`--after takes a position, not "${after}"`);
  }
  const client = createClient(EventService, transport);
  const start = { case: "afterPosition", value: BigInt(after) } as const;
  for await (const { message } of client.watchEvents({ shopId: shop, start })) {
    if (message.case === "batch") {
      process.stdout.write(`${JSON.stringify(toJson(EventBatchSchema, message.value))}\n`);
    }
  }
}
