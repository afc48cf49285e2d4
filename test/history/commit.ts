import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { EventSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { normalise, type Plain } from "../model/plain.ts";
import type { WatchedCommit } from "../model/watched-log.ts";
import type { CommitRecord } from "./history.ts";

/** A commit of Postgres as a watcher must be sent it; events without subjects. */
export function asWatched(commit: CommitRecord): WatchedCommit {
  const { position, epoch, commitId, requestId, principal, timeMs } = commit;
  const wire = commit.events.map((event, index) =>
    normalise(EventSchema, { ...knownParts(EventSchema, event), position, index }),
  );
  return { position, epoch, commitId, requestId, principal, timeMs, events: wire.map(payloadOf), wire };
}

function payloadOf({ position: _, index: __, ...rest }: Plain): readonly [string, Plain] {
  return Object.entries(rest)[0] as [string, Plain];
}

/** What a message knows of the log's JSON, which holds more: for the flush, and null where nothing is set. */
function knownParts(desc: DescMessage, json: Plain): Plain {
  const set = desc.fields.filter(({ name }) => json[name] !== undefined && json[name] !== null);
  return Object.fromEntries(set.map((field) => [field.name, knownValue(field, json[field.name])]));
}

function knownValue(field: DescField, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => knownValue(field, item));
  const { message } = field;
  return message === undefined || typeof value !== "object" ? value : knownParts(message, value as Plain);
}
