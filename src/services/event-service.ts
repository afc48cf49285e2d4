import { create } from "@bufbuild/protobuf";
import type { Selectable } from "kysely";
import * as pb from "../../gen/holdfast/v1/event_service_pb.js";
import { around } from "../crash-point.ts";
import { readCommits, readCommitsBackwards } from "../postgres/commits.ts";
import { acknowledge, findConsumer, listConsumers } from "../postgres/consumers.ts";
import type { ConsumerRow } from "../postgres/schema.ts";
import { Refusal } from "../refusal.ts";
import type { CallContext, Handlers } from "../server/call-context.ts";
import type { ConsumerWatch } from "../shop/consumers.ts";
import { eventBatch, filteredBatch } from "../shop/event-batch.ts";
import { shopIdOf } from "../shop/ids.ts";
import type { LogEntry } from "../shop/log-entry.ts";
import { toMs } from "../shop/messages.ts";
import { type WatchStart, type WatchStep, watchLog } from "../shop/watch.ts";
import type { Deps } from "./deps.ts";
import { sizeOf } from "./page.ts";
import { messageFromRow, readHistory } from "./read.ts";

/** Commits that one ListEvents looks at most, whether they match or not. */
const maxScannedCommits = 5000;

/** What the JSON of an answer has of a commit besides its events, in bytes. */
const commitBytes = 500;

/** When a caller with too many watches is to come back, in milliseconds: when it has ended one, that is. */
const retryMs = 1000;

/** EventService: the log, as it grows and as it was. */
export function createEventService({
  shops,
  pages,
  watchesPerCaller,
  answerBytes,
}: Deps): Handlers<typeof pb.EventService> {
  const places = createPlaces(watchesPerCaller);

  return {
    async *watchEvents(req, ctx) {
      const leave = places.enter(ctx.principal);
      try {
        const shopId = shopIdOf(req);
        await readHistory(shops, req, ctx, async () => undefined); // no hub for a shop that does not exist
        const { case: kind, value } = req.start;
        const watch = kind === "consumer" ? await shops.consumers.take({ shopId, consumer: value }) : undefined;
        const hub = shops.hub(shopId);
        const cursor = hub.enter();
        try {
          const steps = watchLog({
            shopId,
            db: shops.db,
            past: shops.past,
            hub,
            cursor,
            start: startOf(req, watch),
            bookmarkMs: req.bookmarkInterval === undefined ? 5000 : toMs(req.bookmarkInterval, "bookmark_interval"),
            signal: AbortSignal.any([ctx.signal, ctx.draining, ...(watch === undefined ? [] : [watch.taken])]),
          });
          for await (const step of steps) {
            for (const message of messagesOf(step, req, answerBytes)) {
              watch?.taken.throwIfAborted();
              yield message;
            }
          }
          watch?.taken.throwIfAborted();
        } finally {
          hub.leave(cursor);
          watch?.end();
        }
      } finally {
        leave();
      }
    },

    async listEvents(req, ctx) {
      const count = sizeOf(req.pageSize);
      const filter = { types: req.eventTypes, subjects: req.subjects };
      const response = create(pb.ListEventsResponseSchema, { nextAfterPosition: req.afterPosition });
      let scanned = 0;
      let bytes = 0;
      while (response.events.length < count && scanned < maxScannedCommits) {
        const page = await readPage(req, ctx, Number(response.nextAfterPosition));
        for (const entry of page) {
          const events = filteredBatch(entry, filter)?.events ?? [];
          bytes += events.length === 0 ? 0 : bytesOf(entry);
          if (response.events.length > 0 && bytes > answerBytes) {
            return response;
          }
          response.events.push(...events);
          response.nextAfterPosition = BigInt(entry.position);
          scanned += 1;
          if (response.events.length >= count) {
            break;
          }
        }
        if (page.length === 0) {
          break;
        }
      }
      return response;
    },

    async ackEvents(req, ctx) {
      const shopId = shopIdOf(req);
      ctx.throwIfEnded();
      shops.require("Postgres");
      const { consumer, position } = req;
      const result = await around("consumer: acknowledge", () =>
        acknowledge(shops.db, { shopId, consumer }, Number(position)),
      );
      if (result === undefined) {
        throw new Refusal("SHOP_NOT_FOUND", `there is no shop "${shopId}"`, { metadata: { shop_id: shopId } });
      }
      if (result.position === null) {
        throw positionAhead(position, { position: result.headPosition, epoch: result.epoch });
      }
      return create(pb.AckEventsResponseSchema, { position: BigInt(result.position) });
    },

    async getConsumer(req, ctx) {
      const { consumer } = req;
      const found = await readHistory(shops, req, ctx, (db, shopId) => findConsumer(db, { shopId, consumer }));
      if (found.value === undefined) {
        throw new Refusal("CONSUMER_NOT_FOUND", `there is no consumer "${consumer}"`, {
          metadata: { consumer, position: String(found.position), epoch: String(found.epoch) },
        });
      }
      return create(pb.GetConsumerResponseSchema, { consumer: consumerMessage(found.value, found.position) });
    },

    async listConsumers(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req));
      const { value: rows, position } = await readHistory(shops, req, ctx, (db, shopId) =>
        listConsumers(db, shopId, page.after, page.readCount),
      );
      const { shown, nextPageToken } = page.show(rows, ({ consumer }) => consumer);
      const consumers = shown.map((row) => consumerMessage(row, position));
      return create(pb.ListConsumersResponseSchema, { consumers, nextPageToken });
    },
  };

  async function readPage(req: pb.ListEventsRequest, ctx: CallContext, after: number): Promise<readonly LogEntry[]> {
    const { value, ...head } = await readHistory(shops, req, ctx, (db, shopId) => {
      if (!req.newestFirst) {
        return readCommits(db, shopId, after + 1, 500);
      }
      return readCommitsBackwards(db, shopId, after === 0 ? Number.MAX_SAFE_INTEGER : after - 1, 500);
    });
    if (!req.newestFirst && req.afterPosition > head.position) {
      throw positionAhead(req.afterPosition, head);
    }
    return value;
  }
}

/** Counts the watches of each principal that are open, at most so many. */
function createPlaces(maxCount: number) {
  /** Of those who have any. */
  const counts = new Map<string, number>();
  return {
    /** Returns what is to be called when the watch is over. Throws OVERLOADED. */
    enter: (principal: string): (() => void) => {
      const count = counts.get(principal) ?? 0;
      if (count >= maxCount) {
        throw new Refusal("OVERLOADED", `this caller has ${maxCount} watches open, and may not have more`, { retryMs });
      }
      counts.set(principal, count + 1);
      return () => {
        const others = (counts.get(principal) as number) - 1;
        if (others === 0) {
          counts.delete(principal);
        } else {
          counts.set(principal, others);
        }
      };
    },
  };
}

function positionAhead(asked: bigint, { position, epoch }: { position: number; epoch: number }): Refusal {
  return new Refusal("POSITION_AHEAD", `position ${asked} is beyond the durable head`, {
    metadata: { position: String(position), epoch: String(epoch) },
  });
}

/** A consumer's row as a message; a Postgres that lost its newest commits may have it ahead of its head. */
function consumerMessage(row: Selectable<ConsumerRow>, headPosition: number): pb.Consumer {
  return messageFromRow(pb.ConsumerSchema, { ...row, lag_count: Math.max(0, headPosition - row.position) });
}

function startOf(req: pb.WatchEventsRequest, watch: ConsumerWatch | undefined): WatchStart {
  const { start, afterCommitId } = req;
  if (watch !== undefined) {
    return { after: watch.position, afterCommitId: "" };
  }
  if (start.case === "fromNow") {
    return { after: "now", afterCommitId };
  }
  return { after: start.case === "afterPosition" ? Number(start.value) : 0, afterCommitId };
}

function* messagesOf(
  step: WatchStep,
  req: pb.WatchEventsRequest,
  answerBytes: number,
): Generator<pb.WatchEventsResponse> {
  if (step.kind !== "commits") {
    const at = { position: BigInt(step.position), commitId: step.commitId };
    yield step.kind === "bookmark"
      ? create(pb.WatchEventsResponseSchema, { message: { case: "bookmark", value: create(pb.BookmarkSchema, at) } })
      : create(pb.WatchEventsResponseSchema, { message: { case: "caughtUp", value: create(pb.CaughtUpSchema, at) } });
    return;
  }
  const filter = { types: req.eventTypes, subjects: req.subjects };
  const isFiltered = filter.types.length > 0 || filter.subjects.length > 0;
  const perMessage = Math.max(1, req.maxCommitsPerMessage);
  let batches: pb.EventBatch[] = [];
  let bytes = 0;
  for (const entry of step.entries) {
    const batch = isFiltered ? filteredBatch(entry, filter) : eventBatch(entry);
    if (batch === undefined) {
      continue;
    }
    if (perMessage === 1) {
      yield create(pb.WatchEventsResponseSchema, { message: { case: "batch", value: batch } });
      continue;
    }
    bytes += bytesOf(entry);
    if (batches.length === perMessage || (batches.length > 0 && bytes > answerBytes)) {
      yield batchesMessage(batches);
      batches = [];
      bytes = bytesOf(entry);
    }
    batches.push(batch);
  }
  if (batches.length > 0) {
    yield batchesMessage(batches);
  }
}

/** The most that is sent of a commit, on either door: less than twice its JSON in the log. */
function bytesOf({ events }: LogEntry): number {
  return 2 * (Buffer.byteLength(events) + commitBytes);
}

function batchesMessage(batches: pb.EventBatch[]): pb.WatchEventsResponse {
  return create(pb.WatchEventsResponseSchema, {
    message: { case: "batches", value: create(pb.EventBatchesSchema, { batches }) },
  });
}
