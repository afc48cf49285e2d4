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

/**
 * Prints commits as JSON, one per line, until the process is interrupted or the server cannot be reached. A server ends every watch
 * sooner or later, with its connection: then it goes on after what came last.
 */
export async function runWatch({ transport, shop = "default", after = "0" }: WatchArguments): Promise<void> {
  if (!/^\d{1,15}$/.test(after)) {
    throw new StartError(`--after takes a position, not "${after}"`);
  }
  const client = createClient(EventService, transport);
  let [position, afterCommitId] = [BigInt(after), ""];
  for (;;) {
    const start = { case: "afterPosition", value: position } as const;
    for await (const { message } of client.watchEvents({ shopId: shop, start, afterCommitId })) {
      if (message.case === "batch") {
        process.stdout.write(`${JSON.stringify(toJson(EventBatchSchema, message.value))}\n`);
      }
      if (message.case === "batch" || message.case === "bookmark" || message.case === "caughtUp") {
        ({ position, commitId: afterCommitId } = message.value);
      }
    }
  }
}
