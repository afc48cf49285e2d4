import { create } from "@bufbuild/protobuf";
import * as pb from "../../gen/holdfast/v1/event_service_pb.js";
import { readCommits, readCommitsBackwards } from "../postgres/commits.ts";
import type { CallContext, Handlers } from "../server/call-context.ts";
import { eventBatch, filteredBatch } from "../shop/event-batch.ts";
import type { LogEntry } from "../shop/log-entry.ts";
import { toMs } from "../shop/messages.ts";
import { type WatchStart, type WatchStep, watchLog } from "../shop/watch.ts";
import { type Deps, shopIdOf } from "./deps.ts";
import { pageCount, readSnapshot } from "./read.ts";

/** Commits that one ListEvents looks at most, whether they match or not. */
const maxScannedCommits = 5000;

/** EventService: the log, as it grows and as it was. */
export function createEventService({ shops }: Deps): Handlers<typeof pb.EventService> {
  return {
    async *watchEvents(req, ctx) {
      const shopId = shopIdOf(req);
      await readSnapshot(shops, req, ctx, async () => undefined); // no hub for a shop that does not exist
      const steps = watchLog({
        shopId,
        db: shops.db,
        hub: shops.hub(shopId),
        start: startOf(req),
        bookmarkMs: req.bookmarkInterval === undefined ? 5000 : toMs(req.bookmarkInterval, "bookmark_interval"),
        signal: AbortSignal.any([ctx.signal, ctx.draining]),
      });
      for await (const step of steps) {
        yield* messagesOf(step, req);
      }
    },

    async listEvents(req, ctx) {
      const count = pageCount(req.pageSize);
      const filter = { types: req.eventTypes, subjects: req.subjects };
      const response = create(pb.ListEventsResponseSchema, { nextAfterPosition: req.afterPosition });
      let scanned = 0;
      while (response.events.length < count && scanned < maxScannedCommits) {
        const page = await readPage(req, ctx, Number(response.nextAfterPosition));
        for (const entry of page) {
          response.events.push(...(filteredBatch(entry, filter)?.events ?? []));
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
  };

  async function readPage(req: pb.ListEventsRequest, ctx: CallContext, after: number): Promise<readonly LogEntry[]> {
    const { value } = await readSnapshot(shops, req, ctx, (db, shopId) => {
      if (!req.newestFirst) {
        return readCommits(db, shopId, after + 1, 500);
      }
      return readCommitsBackwards(db, shopId, after === 0 ? Number.MAX_SAFE_INTEGER : after - 1, 500);
    });
    return value;
  }
}

function startOf(req: pb.WatchEventsRequest): WatchStart {
  const { start, afterCommitId } = req;
  if (start.case === "fromNow") {
    return { after: "now", afterCommitId };
  }
  return { after: start.case === "afterPosition" ? Number(start.value) : 0, afterCommitId };
}

function* messagesOf(step: WatchStep, req: pb.WatchEventsRequest): Generator<pb.WatchEventsResponse> {
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
  for (const entry of step.entries) {
    const batch = isFiltered ? filteredBatch(entry, filter) : eventBatch(entry);
    if (batch === undefined) {
      continue;
    }
    if (perMessage === 1) {
      yield create(pb.WatchEventsResponseSchema, { message: { case: "batch", value: batch } });
      continue;
    }
    batches.push(batch);
    if (batches.length === perMessage) {
      yield batchesMessage(batches);
      batches = [];
    }
  }
  if (batches.length > 0) {
    yield batchesMessage(batches);
  }
}

function batchesMessage(batches: pb.EventBatch[]): pb.WatchEventsResponse {
  return create(pb.WatchEventsResponseSchema, {
    message: { case: "batches", value: create(pb.EventBatchesSchema, { batches }) },
  });
}
