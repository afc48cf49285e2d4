import { create } from "@bufbuild/protobuf";
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type { Kysely } from "kysely";
import * as pb from "../../gen/holdfast/v1/inventory_service_pb.js";
import {
  type CartLine,
  HoldSchema,
  HoldState,
  ProductSchema,
  StockLevelSchema,
} from "../../gen/holdfast/v1/resources_pb.js";
import { findHold, findProduct, listHolds, listProducts } from "../postgres/inventory.ts";
import { type RecordedLevel, readLevels } from "../postgres/recorded.ts";
import type { Database } from "../postgres/schema.ts";
import { Refusal } from "../refusal.ts";
import type { CallContext, Handlers } from "../server/call-context.ts";
import { makeId, shopIdOf } from "../shop/ids.ts";
import { loadLimits } from "../shop/load-limits.ts";
import { toMs } from "../shop/messages.ts";
import { LimitsMissing } from "../shop/mutation.ts";
import type { Deps } from "./deps.ts";
import { endedHold, holdPosition } from "./ended-hold.ts";
import { mutate, readPoint, respond } from "./mutate.ts";
import { messageFromRow, notFound, readEnding, readList, readLive, readRecord, required } from "./read.ts";

/** InventoryService: products, stock and holds. */
export function createInventoryService({ shops, pages, holdMs }: Deps): Handlers<typeof pb.InventoryService> {
  const { scripts } = shops;

  const putProduct = (req: pb.PutProductRequest, ctx: CallContext) =>
    mutate(shops, req, ctx, {
      script: scripts.putProduct,
      args: [
        req.sku,
        JSON.stringify(req.title),
        req.priceMinor?.toString() ?? "",
        req.maxPerUser ?? "",
        timeMs(req.saleStartTime, "sale_start_time"),
        timeMs(req.saleEndTime, "sale_end_time"),
        req.withdrawn === undefined ? "" : Number(req.withdrawn),
      ],
    });

  const readStock = async (req: { shopId: string }, skus: readonly string[], ctx: CallContext) => {
    const live = async () => {
      const { payload, ...at } = await shops.get(shopIdOf(req)).read(scripts.getStock, skus, { skus }, ctx);
      return { ...at, value: payload as Level[] };
    };
    const found = await readLive<Level[] | string>(shops, req, ctx, live, (db, shopId) =>
      recordedLevels(db, shopId, skus),
    );
    const { value: levels } = found;
    if (typeof levels === "string") {
      throw notFound(found, "PRODUCT_NOT_FOUND", "product", levels);
    }
    return {
      stocks: levels.map(([sku, available, held, sold, price]) =>
        create(StockLevelSchema, {
          sku,
          availableCount: BigInt(available),
          heldCount: BigInt(held),
          soldCount: BigInt(sold),
          priceMinor: BigInt(price),
        }),
      ),
      asOf: readPoint(found),
    };
  };

  return {
    async putProduct(req, ctx) {
      // What is loaded for a first limit is gone again when the shop is rebuilt before the limit is set.
      for (;;) {
        try {
          return respond(pb.PutProductResponseSchema, await putProduct(req, ctx), "product_put");
        } catch (error) {
          if (!(error instanceof LimitsMissing)) {
            throw error;
          }
          await loadLimits(shops, shopIdOf(req), req.sku, ctx);
        }
      }
    },

    async getProduct(req, ctx) {
      const found = await readRecord(shops, req, ctx, (db, shopId) => findProduct(db, shopId, req.sku));
      const row = required(found, "PRODUCT_NOT_FOUND", "product", req.sku);
      return create(pb.GetProductResponseSchema, {
        product: messageFromRow(ProductSchema, row),
        asOf: readPoint(found),
      });
    },

    async listProducts(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req));
      const { value: rows } = await readList(shops, req, ctx, (db, shopId) =>
        listProducts(db, shopId, page.after, page.readCount),
      );
      const { shown, nextPageToken } = page.show(rows, ({ sku }) => sku);
      const products = shown.map((row) => messageFromRow(ProductSchema, row));
      return create(pb.ListProductsResponseSchema, { products, nextPageToken });
    },

    async adjustStock(req, ctx) {
      const committed = await mutate(shops, req, ctx, {
        script: scripts.adjustStock,
        args: [
          req.sku,
          req.deltaCount.toString(),
          req.reason,
          JSON.stringify(req.reference),
          req.expectedAvailableCount?.toString() ?? "",
        ],
      });
      return respond(pb.AdjustStockResponseSchema, committed, "stock_adjusted");
    },

    async getStock(req, ctx) {
      const { stocks, asOf } = await readStock(req, [req.sku], ctx);
      return create(pb.GetStockResponseSchema, { ...(stocks[0] === undefined ? {} : { stock: stocks[0] }), asOf });
    },

    async batchGetStock(req, ctx) {
      return create(pb.BatchGetStockResponseSchema, await readStock(req, req.skus, ctx));
    },

    async holdStock(req, ctx) {
      const holdId = req.holdId === "" ? makeId() : req.holdId;
      const committed = await mutate(shops, req, ctx, {
        script: scripts.holdStock,
        args: [holdId, req.userId, durationMs(req.holdDuration, holdMs), ...cartArguments(req.lines)],
        ids: [holdId],
        lookUp: (db) => holdPosition(db, shopIdOf(req), holdId),
        existsReason: "HOLD_EXISTS",
        existsMetadata: { hold_id: holdId },
      });
      return respond(pb.HoldStockResponseSchema, committed, "stock_held");
    },

    async getHold(req, ctx) {
      const { holdId } = req;
      const endDue = () => shops.get(shopIdOf(req)).read(scripts.getHold, [holdId], { holdId }, ctx, true);
      const found = await readEnding(shops, req, ctx, endDue, async (db, shopId) => {
        const hold = await findHold(db, shopId, holdId);
        return { value: hold, dueTime: hold?.state === HoldState.ACTIVE ? hold.expire_time : undefined };
      });
      const row = required(found, "HOLD_NOT_FOUND", "hold", req.holdId);
      return create(pb.GetHoldResponseSchema, { hold: messageFromRow(HoldSchema, row), asOf: readPoint(found) });
    },

    async listHolds(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req), req.userId);
      const { value: rows } = await readList(shops, req, ctx, (db, shopId) =>
        listHolds(db, shopId, req.userId, page.before, page.readCount),
      );
      const { shown, nextPageToken } = page.show(rows, ({ create_position }) => create_position);
      const holds = shown.map((row) => messageFromRow(HoldSchema, row));
      return create(pb.ListHoldsResponseSchema, { holds, nextPageToken });
    },

    async extendHold(req, ctx) {
      const committed = await mutate(shops, req, ctx, {
        script: scripts.extendHold,
        args: [req.holdId, durationMs(req.holdDuration, holdMs)],
        ids: [req.holdId],
        lookUp: (db) => endedHold(db, shopIdOf(req), req.holdId, false),
      });
      return respond(pb.ExtendHoldResponseSchema, committed, "hold_extended");
    },

    async releaseHold(req, ctx) {
      const committed = await mutate(shops, req, ctx, {
        script: scripts.releaseHold,
        args: [req.holdId],
        ids: [req.holdId],
        lookUp: (db) => endedHold(db, shopIdOf(req), req.holdId, true),
        isLaterStep: true,
      });
      return respond(pb.ReleaseHoldResponseSchema, committed, "hold_released");
    },
  };
}

/** The lines of a cart as scripts take them: sku, quantity, expected price (empty = any). */
export function cartArguments(lines: readonly CartLine[]): (string | number)[] {
  return lines.flatMap((line) => [line.sku, line.quantity, line.expectedPriceMinor?.toString() ?? ""]);
}

/** SKU, available, held, sold and price as the script gives them. */
type Level = readonly [sku: string, available: string, held: string, sold: string, price: string];

/** The levels of SKUs as Postgres has them, or the first SKU that does not exist. */
async function recordedLevels(
  db: Kysely<Database>,
  shopId: string,
  skus: readonly string[],
): Promise<Level[] | string> {
  const rows = await readLevels(db, shopId, skus);
  const missing = skus.find((sku) => !rows.has(sku));
  if (missing !== undefined) {
    return missing;
  }
  return skus.map((sku) => {
    const { available_count, held_count, sold_count, price_minor } = rows.get(sku) as RecordedLevel;
    return [sku, String(available_count), String(held_count), String(sold_count), String(price_minor)];
  });
}

/** A hold's duration in milliseconds. */
function durationMs(duration: Duration | undefined, defaultMs: number): number {
  const ms = duration === undefined ? defaultMs : toMs(duration, "hold_duration");
  if (ms < 1 || ms > 86_400_000) {
    const description = "must be between 1 ms and 24 hours";
    throw new Refusal("VALIDATION_FAILED", `hold_duration ${description}`, {
      fieldViolations: [{ field: "hold_duration", description }],
    });
  }
  return ms;
}

function timeMs(time: Timestamp | undefined, field: string): number | "" {
  return time === undefined ? "" : toMs(time, field);
}
