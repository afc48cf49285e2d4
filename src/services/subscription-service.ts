import { create } from "@bufbuild/protobuf";
import { SubscriptionSchema, type Tier, TierChangeSchema, TierSchema } from "../../gen/holdfast/v1/resources_pb.js";
import * as pb from "../../gen/holdfast/v1/subscription_service_pb.js";
import { readSubscription } from "../postgres/recorded.ts";
import type { TierRow } from "../postgres/schema.ts";
import { listTierChanges, listTiers } from "../postgres/subscriptions.ts";
import type { Handlers } from "../server/call-context.ts";
import { shopIdOf } from "../shop/ids.ts";
import { messageFromLog } from "../shop/messages.ts";
import type { Deps } from "./deps.ts";
import { mutate, readPoint, respond } from "./mutate.ts";
import { messageFromRow, readList, readLive, required } from "./read.ts";
import { changeArguments, type PreviewJson, prorationOf, quoteMessage, timingOf } from "./tier-quotes.ts";

/** SubscriptionService: tiers and what users are subscribed to. */
export function createSubscriptionService({
  shops,
  pages,
  quoteTokens,
}: Deps): Handlers<typeof pb.SubscriptionService> {
  const { scripts } = shops;
  return {
    async putTier(req, ctx) {
      const { limits } = req;
      const committed = await mutate(shops, req, ctx, {
        script: scripts.putTier,
        args: [
          req.tier,
          req.priceCredits?.toString() ?? "",
          limits?.maxProjects.toString() ?? "",
          limits?.maxStorageMb.toString() ?? "",
          limits?.maxApiCalls.toString() ?? "",
        ],
      });
      return respond(pb.PutTierResponseSchema, committed, "tier_put");
    },

    async listTiers(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req));
      const { value: rows } = await readList(shops, req, ctx, (db, shopId) =>
        listTiers(db, shopId, page.after, page.readCount),
      );
      const { shown, nextPageToken } = page.show(rows, ({ tier }) => tier);
      return create(pb.ListTiersResponseSchema, { tiers: shown.map(tierMessage), nextPageToken });
    },

    async getSubscription(req, ctx) {
      const { userId } = req;
      const live = async () => {
        const { payload, ...at } = await shops
          .get(shopIdOf(req))
          .read(scripts.getSubscription, [userId], { userId }, ctx);
        return { ...at, value: JSON.parse(payload as string) as object };
      };
      const found = await readLive<object | undefined>(shops, req, ctx, live, (db, shopId) =>
        readSubscription(db, shopId, userId, shops.nowMs()),
      );
      return create(pb.GetSubscriptionResponseSchema, {
        subscription: messageFromLog(SubscriptionSchema, required(found, "USER_NOT_FOUND", "user", userId)),
        asOf: readPoint(found),
      });
    },

    async previewTierChange(req, ctx) {
      const { userId } = req;
      const shopId = shopIdOf(req);
      const args = [userId, req.tier, prorationOf(req.proration), timingOf(req.timing)];
      const observed = await shops.get(shopId).read(scripts.previewTierChange, args, { userId }, ctx);
      return create(pb.PreviewTierChangeResponseSchema, {
        quote: quoteMessage(shopId, JSON.parse(observed.payload as string) as PreviewJson, quoteTokens),
        asOf: readPoint(observed),
      });
    },

    async changeTier(req, ctx) {
      const args = changeArguments(req, quoteTokens);
      const committed = await mutate(shops, req, ctx, { script: scripts.changeTier, args });
      const isNow = committed.events.some((event) => "tier_changed" in event);
      return respond(pb.ChangeTierResponseSchema, committed, isNow ? "tier_changed" : "tier_change_scheduled");
    },

    async cancelScheduledChange(req, ctx) {
      const committed = await mutate(shops, req, ctx, { script: scripts.cancelScheduledChange, args: [req.userId] });
      return respond(pb.CancelScheduledChangeResponseSchema, committed, "tier_change_cancelled");
    },

    async listTierChanges(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req), req.userId);
      const { value: rows } = await readList(shops, req, ctx, (db, shopId) =>
        listTierChanges(db, shopId, req.userId, page.before, page.readCount),
      );
      const { shown, nextPageToken } = page.show(rows, ({ position }) => position);
      const changes = shown.map((row) => messageFromRow(TierChangeSchema, row));
      return create(pb.ListTierChangesResponseSchema, { changes, nextPageToken });
    },
  };
}

function tierMessage({ max_projects, max_storage_mb, max_api_calls, ...row }: TierRow): Tier {
  return messageFromRow(TierSchema, { ...row, limits: { max_projects, max_storage_mb, max_api_calls } });
}
