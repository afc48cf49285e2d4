import { create } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type Event, type EventBatch, EventBatchSchema, EventSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import type { LineJson } from "./event-json.ts";
import type { Call, LogEntry } from "./log-entry.ts";
import { messageFromLog } from "./messages.ts";

/** Which events a caller wants; an empty list = all. An event passes when its type and one of its subjects are listed. */
export interface EventFilter {
  /** Payload names: `order_placed`. */
  readonly types: readonly string[];
  /** `sku:ps5`, `user:u1`, `order:o1`, `hold:h1`, `tier:pro`, `shop:default`. */
  readonly subjects: readonly string[];
}

const batches = new WeakMap<LogEntry, EventBatch>();

/** The contract's view of a commit. Built once per entry, however many watch; callers must not change it. */
export function eventBatch(entry: LogEntry): EventBatch {
  let known = batches.get(entry);
  if (known === undefined) {
    const call = JSON.parse(entry.call) as Call;
    const seconds = Math.floor(entry.timeMs / 1000);
    known = create(EventBatchSchema, {
      position: BigInt(entry.position),
      epoch: BigInt(entry.epoch),
      commitId: entry.commitId,
      requestId: call.request_id,
      principal: call.principal,
      traceParent: call.trace_parent ?? "",
      commitTime: create(TimestampSchema, {
        seconds: BigInt(seconds),
        nanos: (entry.timeMs - seconds * 1000) * 1_000_000,
      }),
      events: (JSON.parse(entry.events) as Record<string, object>[]).map((json, index) =>
        toEvent(json, entry.position, index),
      ),
    });
    batches.set(entry, known);
  }
  return known;
}

/** The events of a commit that pass a filter, with their original index; undefined when none does. */
export function filteredBatch(entry: LogEntry, filter: EventFilter): EventBatch | undefined {
  if (filter.types.length === 0 && filter.subjects.length === 0) {
    return eventBatch(entry);
  }
  // Before the messages are made: one call may have thousands of commits looked at, few of which pass.
  const passes = (JSON.parse(entry.events) as Record<string, object>[]).map((json) => doesPass(json, filter));
  if (!passes.includes(true)) {
    return undefined;
  }
  const batch = eventBatch(entry);
  return create(EventBatchSchema, { ...batch, events: batch.events.filter((_, index) => passes[index]) });
}

function doesPass(json: Record<string, object>, { types, subjects }: EventFilter): boolean {
  const [[name, payload] = ["", {}]] = Object.entries(json);
  return (
    (types.length === 0 || types.includes(name)) &&
    (subjects.length === 0 || subjectsOf(payload as Payload).some((subject) => subjects.includes(subject)))
  );
}

function toEvent(json: Record<string, object>, position: number, index: number): Event {
  const event = messageFromLog(EventSchema, json);
  event.position = BigInt(position);
  event.index = index;
  event.subjects = subjectsOf(Object.values(json)[0] as Payload);
  return event;
}

/** The resource a payload carries; each has exactly one. */
interface Payload {
  readonly product?: { sku: string };
  readonly stock?: { sku: string };
  readonly hold?: { hold_id: string; user_id: string; order_id: string; lines: LineJson[] };
  readonly order?: { order_id: string; user_id: string; hold_id: string; lines: LineJson[] };
  readonly user?: { user_id: string };
  readonly referred_user_id?: string;
  readonly subscription?: { user_id: string };
  readonly tier?: { tier: string };
  readonly shop_id?: string;
}

/** What an event is about; the resource of the payload comes first. */
function subjectsOf(payload: Payload): string[] {
  const { product, stock, hold, order, user, subscription, tier } = payload;
  const subjects: string[] = [];
  const add = (kind: string, id: string | undefined): void => {
    if (id !== undefined && id !== "") {
      subjects.push(`${kind}:${id}`);
    }
  };
  add("order", order?.order_id);
  add("hold", hold?.hold_id ?? order?.hold_id);
  add("order", hold?.order_id);
  add("user", (order ?? hold ?? user ?? subscription)?.user_id);
  add("user", payload.referred_user_id);
  add("tier", tier?.tier);
  add("sku", (product ?? stock)?.sku);
  for (const sku of new Set((order ?? hold)?.lines.map((line) => line.sku))) {
    add("sku", sku);
  }
  add("shop", payload.shop_id);
  return subjects;
}
