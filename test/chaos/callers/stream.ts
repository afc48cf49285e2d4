import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import type { WatchEventsRequestSchema } from "../../../gen/holdfast/v1/event_service_pb.js";
import { readBatch, type WatchedCommit } from "../../model/watched-log.ts";
import type { OpenDoors } from "./open-servers.ts";
import type { Random } from "./random.ts";

/** A place in the log: nothing has been sent yet at position 0. */
export interface Place {
  readonly position: number;
  readonly commitId: string;
}

/** What a stream says: commits, or where it stands. */
export type Said =
  | { readonly kind: "commits"; readonly commits: readonly WatchedCommit[] }
  | { readonly kind: "bookmark" | "caught up"; readonly place: Place };

/** The longest and the shortest life of a stream until its watcher cuts it, in milliseconds. */
const lifeMs = [100, 4000] as const;

/** Ends of a stream that say nothing of the log. */
const harmlessReasons: ReadonlySet<string> = new Set(["SHOP_UNAVAILABLE", "RATE_LIMITED", "OVERLOADED"]);

/**
 * Watches for a while, then cuts the stream. Returns why it ended: `cut` when that says nothing, otherwise the reason of
 * the refusal or the server's fault in words.
 */
export async function watchFor(
  server: OpenDoors,
  request: MessageInitShape<typeof WatchEventsRequestSchema>,
  random: Random,
  end: AbortSignal,
  listen: (said: Said) => void,
): Promise<string> {
  const { events } = server[random.chance(50) ? "grpc" : "http"];
  const signal = AbortSignal.any([end, AbortSignal.timeout(Math.round(random.between(...lifeMs)))]);
  try {
    for await (const { message } of events.watchEvents(request, { signal })) {
      if (message.case === "batch") listen({ kind: "commits", commits: [readBatch(message.value)] });
      if (message.case === "batches") listen({ kind: "commits", commits: message.value.batches.map(readBatch) });
      if (message.case === "bookmark") listen({ kind: "bookmark", place: readPlace(message.value) });
      if (message.case === "caughtUp") listen({ kind: "caught up", place: readPlace(message.value) });
    }
    return "cut";
  } catch (error) {
    return whyEnded(ConnectError.from(error));
  }
}

function readPlace({ position, commitId }: { readonly position: bigint; readonly commitId: string }): Place {
  return { position: Number(position), commitId };
}

/** Why a call of EventService ended, as {@link watchFor} returns it. */
export function whyEnded(error: ConnectError): string {
  const [info] = error.findDetails(ErrorInfoSchema);
  if (info !== undefined) return harmlessReasons.has(info.reason) ? "cut" : info.reason;
  const isFault = error.rawMessage === "internal error" || error.code === Code.Unimplemented;
  return isFault ? `${Code[error.code]}: ${error.rawMessage}` : "cut";
}
