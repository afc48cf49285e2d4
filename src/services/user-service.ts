import { create } from "@bufbuild/protobuf";
import { UserSchema } from "../../gen/holdfast/v1/resources_pb.js";
import * as pb from "../../gen/holdfast/v1/user_service_pb.js";
import { findUser } from "../postgres/users.ts";
import type { Handlers } from "../server/call-context.ts";
import { makeId } from "../shop/ids.ts";
import type { Deps } from "./deps.ts";
import { shopIdOf } from "./deps.ts";
import { mutate, readPoint, respond } from "./mutate.ts";
import { messageFromRow, readRecord, required } from "./read.ts";

/** UserService: users and their wallets. */
export function createUserService({ shops }: Deps): Handlers<typeof pb.UserService> {
  const { scripts } = shops;
  return {
    async createUser(req, ctx) {
      const userId = req.userId === "" ? makeId() : req.userId;
      const email = req.email.trim() === "" ? "" : req.email;
      const emailKey = email.trim().toLowerCase();
      const secret = JSON.stringify({ email, email_key: emailKey, display_name: req.displayName });
      const committed = await mutate(shops, req, ctx, {
        script: scripts.createUser,
        args: [userId, emailKey, secret],
        existsReason: "USER_EXISTS",
      });
      const response = respond(pb.CreateUserResponseSchema, committed, "user_created");
      // Not in the event, so that it stays erasable; a replay has proved that the request is the same.
      Object.assign(response.user ?? {}, { email, displayName: req.displayName });
      return response;
    },

    async getUser(req, ctx) {
      const found = await readRecord(shops, req, ctx, (db, shopId) => findUser(db, shopId, req.userId));
      const row = required(found, "USER_NOT_FOUND", "user", req.userId);
      return create(pb.GetUserResponseSchema, {
        user: messageFromRow(UserSchema, { ...row, tier: "free" }),
        asOf: readPoint(found),
      });
    },

    async depositFunds(req, ctx) {
      const committed = await mutate(shops, req, ctx, {
        script: scripts.depositFunds,
        args: [req.userId, req.amountMinor.toString(), JSON.stringify(req.reference)],
      });
      const response = respond(pb.DepositFundsResponseSchema, committed, "funds_deposited");
      let user = await findUser(shops.db, shopIdOf(req), req.userId);
      if (user === undefined) {
        // Acknowledged by Redis a moment ago: Postgres does not have the user yet.
        await shops.get(shopIdOf(req)).observe(ctx);
        user = await findUser(shops.db, shopIdOf(req), req.userId);
      }
      Object.assign(response.user ?? {}, { email: user?.email ?? "", displayName: user?.display_name ?? "" });
      return response;
    },
  };
}
