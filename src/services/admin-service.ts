import { create } from "@bufbuild/protobuf";
import type { Selectable } from "kysely";
import * as pb from "../../gen/holdfast/v1/admin_service_pb.js";
import { ShopSchema } from "../../gen/holdfast/v1/resources_pb.js";
import { around } from "../crash-point.ts";
import { findByRequestId, readCommit } from "../postgres/commits.ts";
import { readStats } from "../postgres/recorded.ts";
import type { ShopRow } from "../postgres/schema.ts";
import { findShop, insertShop, listShops } from "../postgres/shops.ts";
import { listSkuStats } from "../postgres/stats.ts";
import { Refusal } from "../refusal.ts";
import type { CallContext, Handlers } from "../server/call-context.ts";
import { makeId, shopIdOf } from "../shop/ids.ts";
import type { Call } from "../shop/log-entry.ts";
import { firstDifference, requestJson } from "../shop/messages.ts";
import { traceOf } from "../shop/mutation.ts";
import type { RebuildMode } from "../shop/open-shop.ts";
import type { Shop } from "../shop/shop.ts";
import type { Caller } from "../shop/waiters.ts";
import type { Discrepancy } from "../verify/discrepancy.ts";
import { rebuildShop } from "../verify/rebuild-shop.ts";
import { verifyShop } from "../verify/verify-shop.ts";
import type { Deps } from "./deps.ts";
import { commitMessage, readPoint } from "./mutate.ts";
import { messageFromRow, readList, readLive, readRecord, required } from "./read.ts";

/** AdminService: shops. */
export function createAdminService({ shops, pages }: Deps): Handlers<typeof pb.AdminService> {
  return {
    async getShopStats(req, ctx) {
      const live = async () => {
        const { payload, ...at } = await shops.get(shopIdOf(req)).read(shops.scripts.getShopStats, [], {}, ctx);
        return { ...at, value: payload as string[] };
      };
      const found = await readLive<readonly (string | number)[]>(shops, req, ctx, live, async (db, shopId) =>
        ((await readStats(db, shopId)) ?? []).flat(),
      );
      return create(pb.GetShopStatsResponseSchema, { stats: statsMessage(found.value), asOf: readPoint(found) });
    },

    async listSkuStats(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req));
      const { value: rows } = await readList(shops, req, ctx, (db, shopId) =>
        listSkuStats(db, shopId, page.after, page.readCount),
      );
      const { shown, nextPageToken } = page.show(rows, ({ sku }) => sku);
      const skuStats = shown.map((row) => messageFromRow(pb.SkuStatsSchema, row));
      return create(pb.ListSkuStatsResponseSchema, { skuStats, nextPageToken });
    },

    async *verifyShop(req, ctx) {
      const { db, scripts, requestRetentionMs } = shops;
      const id = shopIdOf(req);
      // Not before Postgres has said that there is such a shop.
      const read: Shop["read"] = (...args) => shops.get(id).read(...args);
      const options = { shop: { id, read }, db, scripts, requestRetentionMs, caller: untilDrained(ctx) };
      for await (const { checkedCount, discrepancies, done } of verifyShop(options)) {
        yield create(pb.VerifyShopResponseSchema, {
          checkedCount: BigInt(checkedCount),
          discrepancies: discrepancies.map(discrepancyMessage),
          done,
        });
      }
    },

    async *rebuildShop(req, ctx) {
      ctx.throwIfEnded();
      const shop = shops.get(shopIdOf(req));
      for await (const { epoch, loadedCount, totalCount, done } of rebuildShop(shop, rebuildModes[req.mode])) {
        yield create(pb.RebuildShopResponseSchema, {
          epoch: BigInt(epoch),
          loadedCount: BigInt(loadedCount),
          totalCount: BigInt(totalCount),
          done,
        });
      }
    },

    async createShop(req, ctx) {
      const shopId = shopIdOf(req);
      const requestId = req.requestId === "" ? makeId() : req.requestId;
      const request = requestJson(ctx.method.input, req, requestId);
      const { principal, traceParent } = ctx;
      const call: Call = { rpc: ctx.method.name, request_id: requestId, principal, request, ...traceOf(traceParent) };
      const { currencyCode } = req;
      ctx.throwIfEnded();
      shops.require("Postgres");
      const birth = {
        shopId,
        currencyCode,
        commitId: makeId(),
        timeMs: Date.now(),
        call: JSON.stringify(call),
        events: JSON.stringify([{ shop_created: { shop_id: shopId, currency_code: currencyCode } }]),
      };
      const made = await around("create shop: insert", () => insertShop(shops.db, birth));
      // A shop is the answer to its own CreateShop, whoever asks again: with an equal body it is a replay.
      const [first, known] = await Promise.all([
        around("create shop: read back", () => readCommit(shops.db, shopId, 1)),
        made ? undefined : findByRequestId(shops.db, shopId, requestId, Number.POSITIVE_INFINITY),
      ]);
      if (first === undefined) {
        throw new Error(`shop ${shopId} has no first commit`);
      }
      const stored = JSON.parse(first.call) as Call;
      const field = known === undefined || known.position === 1 ? firstDifference(stored.request, request) : "rpc";
      if (field !== undefined) {
        const { position, epoch } = known ?? first;
        throw new Refusal(known === undefined ? "SHOP_EXISTS" : "REQUEST_ID_REUSED", existsMessage(shopId, field), {
          metadata: { field, shop_id: shopId, position: String(position), epoch: String(epoch) },
        });
      }
      const born = {
        shop_id: shopId,
        currency_code: currencyCode,
        create_time: first.timeMs,
        head_position: 1,
        durable_position: 1,
      };
      const committed = { ...first, requestId: stored.request_id, replayed: !made, durable: true, events: [] };
      return create(pb.CreateShopResponseSchema, {
        shop: messageFromRow(ShopSchema, born),
        commit: commitMessage(committed),
      });
    },

    async getShop(req, ctx) {
      const shopId = shopIdOf(req);
      const found = await readRecord(shops, req, ctx, (db) => findShop(db, shopId));
      const row = required(found, "SHOP_NOT_FOUND", "shop", shopId);
      const askRedis = () => shops.get(shopId).logPosition();
      const logPosition = await (shops.acksDurable ? shops.whileRedisAnswers(askRedis) : askRedis());
      return create(pb.GetShopResponseSchema, {
        shop: shopMessage(row, logPosition ?? row.head_position),
        asOf: readPoint(found),
      });
    },

    async listShops(req, ctx) {
      const page = pages.of(req, ctx, "");
      ctx.throwIfEnded();
      shops.require("Postgres");
      const rows = await listShops(shops.db, page.after, page.readCount);
      const { shown, nextPageToken } = page.show(rows, ({ shop_id }) => shop_id);
      return create(pb.ListShopsResponseSchema, {
        shops: shown.map((row) => shopMessage(row, row.head_position)),
        nextPageToken,
      });
    },
  };
}

const rebuildModes: Readonly<Record<pb.RebuildMode, RebuildMode>> = {
  [pb.RebuildMode.UNSPECIFIED]: "keep all",
  [pb.RebuildMode.DISCARD_UNRECORDED]: "discard unrecorded",
  [pb.RebuildMode.ACCEPT_LOSS]: "accept loss",
};

function existsMessage(shopId: string, field: string): string {
  return field === "rpc"
    ? `the request id was used in shop "${shopId}" by another RPC`
    : `shop "${shopId}" exists with another "${field}"`;
}

/** A shop's row as a message; the live head may be ahead of Postgres'. */
function shopMessage(row: Selectable<ShopRow>, logPosition: number) {
  const headPosition = Math.max(row.head_position, logPosition);
  return messageFromRow(ShopSchema, { ...row, head_position: headPosition, durable_position: row.head_position });
}

function statsMessage(payload: readonly (string | number)[]) {
  const values = new Map<string, string | number>();
  for (let index = 0; index + 1 < payload.length; index += 2) {
    values.set(payload[index] as string, payload[index + 1] as string | number);
  }
  const figure = (name: string): bigint => BigInt(values.get(name) ?? 0);
  const tiers = [...values.keys()].filter((name) => name.startsWith("tier:") && figure(name) !== 0n);
  return create(pb.ShopStatsSchema, {
    userCount: figure("users"),
    orderCount: figure("orders"),
    itemCount: figure("items"),
    revenueMinor: figure("revenue"),
    refundedMinor: figure("refunded"),
    upgradeCredits: figure("upgrade_credits"),
    downgradeCredits: figure("downgrade_credits"),
    tiers: tiers.sort().map((name) => ({ tier: name.slice("tier:".length), userCount: figure(name) })),
  });
}

function discrepancyMessage({ position, store, ...discrepancy }: Discrepancy) {
  return create(pb.DiscrepancySchema, { ...discrepancy, position: BigInt(position), store: pb.Store[store] });
}

/** A caller of something long: it ends too when the server or its connection is about to close. */
function untilDrained(ctx: CallContext): Caller {
  return {
    get ended() {
      return ctx.ended || ctx.draining.aborted;
    },
    deadlineMs: ctx.deadlineMs,
    throwIfEnded: () => {
      ctx.throwIfEnded();
      if (ctx.draining.aborted) {
        throw new Refusal("SHOP_UNAVAILABLE", "the server or this connection closes; ask again", { retryMs: 1000 });
      }
    },
  };
}
