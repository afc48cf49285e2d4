import { create } from "@bufbuild/protobuf";
import type { Selectable } from "kysely";
import * as pb from "../../gen/holdfast/v1/admin_service_pb.js";
import { ShopSchema } from "../../gen/holdfast/v1/resources_pb.js";
import { findByRequestId, readCommit } from "../postgres/commits.ts";
import { listName } from "../postgres/page-token.ts";
import type { ShopRow } from "../postgres/schema.ts";
import { findShop, insertShop, listShops } from "../postgres/shops.ts";
import { Refusal } from "../refusal.ts";
import type { Handlers } from "../server/call-context.ts";
import { makeId } from "../shop/ids.ts";
import type { Call } from "../shop/log-entry.ts";
import { firstDifference, requestJson } from "../shop/messages.ts";
import { type Deps, shopIdOf } from "./deps.ts";
import { commitMessage, readPoint } from "./mutate.ts";
import { messageFromRow, pageCount, readRecord, required } from "./read.ts";

/** AdminService: shops. */
export function createAdminService({ shops, pageTokens }: Deps): Handlers<typeof pb.AdminService> {
  return {
    async createShop(req, ctx) {
      const shopId = shopIdOf(req);
      const requestId = req.requestId === "" ? makeId() : req.requestId;
      const request = requestJson(ctx.method.input, req, requestId);
      const call: Call = { rpc: ctx.method.name, request_id: requestId, principal: ctx.principal, request };
      const { currencyCode } = req;
      ctx.throwIfEnded();
      const made = await insertShop(shops.db, {
        shopId,
        currencyCode,
        commitId: makeId(),
        timeMs: Date.now(),
        call: JSON.stringify(call),
        events: JSON.stringify([{ shop_created: { shop_id: shopId, currency_code: currencyCode } }]),
      });
      // A shop is the answer to its own CreateShop, whoever asks again: with an equal body it is a replay.
      const [first, known] = await Promise.all([
        readCommit(shops.db, shopId, 1),
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
      return create(pb.GetShopResponseSchema, {
        shop: shopMessage(row, await shops.get(shopId).logPosition()),
        asOf: readPoint(found),
      });
    },

    async listShops(req, ctx) {
      const list = listName("ListShops", "");
      const count = pageCount(req.pageSize);
      const after = pageTokens.read(list, req.pageToken);
      ctx.throwIfEnded();
      const rows = await listShops(shops.db, after, count + 1);
      const page = rows.slice(0, count);
      return create(pb.ListShopsResponseSchema, {
        shops: page.map((row) => shopMessage(row, row.head_position)),
        nextPageToken: rows.length > count ? pageTokens.make(list, page.at(-1)?.shop_id ?? "") : "",
      });
    },
  };
}

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
