import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { type User, UserSchema, WalletEntryCause, WalletEntrySchema } from "../../gen/holdfast/v1/resources_pb.js";
import * as pb from "../../gen/holdfast/v1/user_service_pb.js";
import { around } from "../crash-point.ts";
import { type LedgerKey, listWalletEntries } from "../postgres/ledger.ts";
import { findRenewalTime } from "../postgres/subscriptions.ts";
import { findUser, findUserByEmail, listUsers } from "../postgres/users.ts";
import { Refusal } from "../refusal.ts";
import type { CallContext, Handlers } from "../server/call-context.ts";
import { makeId, shopIdOf } from "../shop/ids.ts";
import type { Deps } from "./deps.ts";
import { type MutationPlan, mutate, readPoint, respond } from "./mutate.ts";
import { messageFromRow, readEnding, readList, readRecord, required } from "./read.ts";
import { makeReferralCode } from "./referral-code.ts";

/** UserService: users and their wallets. */
export function createUserService({ shops, pages }: Deps): Handlers<typeof pb.UserService> {
  const { scripts } = shops;

  /**
   * Runs a mutation of one user and answers with the user after it, e-mail and name included: they are in no event, so that
   * they stay erasable. What the request brought is what the first call answered, because a replay has proved that the
   * request is the same; the rest is read from Postgres while the commit becomes durable: as it was when the call began, or
   * later, also in a replay.
   */
  const change = async <Desc extends DescMessage>(
    req: AboutUser & { readonly requestId: string },
    ctx: CallContext,
    plan: MutationPlan,
    [desc, eventName]: readonly [response: Desc, eventName: string],
  ): Promise<MessageShape<Desc>> => {
    const { email, displayName } = req;
    const isAllGiven = email !== undefined && displayName !== undefined;
    const reads = !isAllGiven && shops.acksDurable;
    const [committed, early] = await Promise.all([
      mutate(shops, req, ctx, plan),
      reads
        ? around("change user: read", () => findUser(shops.db, shopIdOf(req), req.userId)).catch(() => undefined)
        : undefined,
    ]);
    const present = isAllGiven ? undefined : (early ?? (await presentUser(req, ctx)));
    const response = respond(desc, committed, eventName);
    Object.assign((response as { user?: User | undefined }).user ?? {}, {
      email: email === undefined ? (present?.email ?? "") : keptEmail(email),
      displayName: displayName ?? present?.display_name ?? "",
    });
    return response;
  };

  const presentUser = async (req: AboutUser, ctx: CallContext) => {
    // Where Redis acknowledges alone, Postgres may not have the user or their last change yet.
    await shops.get(shopIdOf(req)).settle(ctx);
    return findUser(shops.db, shopIdOf(req), req.userId);
  };

  return {
    async createUser(req, ctx) {
      const userId = req.userId === "" ? makeId() : req.userId;
      const plan = {
        script: scripts.createUser,
        args: [
          userId,
          emailKeyOf(req.email),
          secretOf(req),
          // A code made here is no part of the request: a repeat brings another one and answers with the first.
          req.ownReferralCode === "" ? makeReferralCode() : req.ownReferralCode,
          req.referralCode,
          Number(req.requireReferral),
        ],
        existsReason: "USER_EXISTS" as const,
        existsMetadata: { user_id: userId },
      };
      return change(req, ctx, plan, [pb.CreateUserResponseSchema, "user_created"]);
    },

    async updateUser(req, ctx) {
      const plan = {
        script: scripts.updateUser,
        args: [req.userId, Number(req.email !== undefined), emailKeyOf(req.email ?? ""), secretOf(req)],
      };
      return change(req, ctx, plan, [pb.UpdateUserResponseSchema, "user_updated"]);
    },

    async getUser(req, ctx) {
      const { userId } = req;
      // A period of theirs that is over is renewed first: tier and credits follow from it.
      const endDue = () => shops.get(shopIdOf(req)).read(scripts.getSubscription, [userId], { userId }, ctx, true);
      const found = await readEnding(shops, req, ctx, endDue, async (db, shopId) => ({
        value: await findUser(db, shopId, userId),
        dueTime: await findRenewalTime(db, shopId, userId),
      }));
      const row = required(found, "USER_NOT_FOUND", "user", req.userId);
      return create(pb.GetUserResponseSchema, { user: messageFromRow(UserSchema, row), asOf: readPoint(found) });
    },

    async lookupUser(req, ctx) {
      const emailKey = emailKeyOf(req.email);
      const found = await readRecord(shops, req, ctx, (db, shopId) => findUserByEmail(db, shopId, emailKey));
      if (found.value === undefined) {
        // The address is personal data: it is not repeated.
        throw new Refusal("USER_NOT_FOUND", "no user has this e-mail address", {
          metadata: { position: String(found.position), epoch: String(found.epoch) },
        });
      }
      return create(pb.LookupUserResponseSchema, {
        user: messageFromRow(UserSchema, found.value),
        asOf: readPoint(found),
      });
    },

    async listUsers(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req));
      const { value: rows } = await readList(shops, req, ctx, (db, shopId) =>
        listUsers(db, shopId, page.before, page.readCount),
      );
      const { shown, nextPageToken } = page.show(rows, ({ create_position }) => create_position);
      const users = shown.map((row) => messageFromRow(UserSchema, row));
      return create(pb.ListUsersResponseSchema, { users, nextPageToken });
    },

    async depositFunds(req, ctx) {
      const plan = {
        script: scripts.depositFunds,
        args: [req.userId, req.amountMinor.toString(), JSON.stringify(req.reference)],
      };
      return change(req, ctx, plan, [pb.DepositFundsResponseSchema, "funds_deposited"]);
    },

    async withdrawFunds(req, ctx) {
      const plan = {
        script: scripts.withdrawFunds,
        args: [req.userId, req.amountMinor.toString(), JSON.stringify(req.reference)],
      };
      return change(req, ctx, plan, [pb.WithdrawFundsResponseSchema, "funds_withdrawn"]);
    },

    async grantCredits(req, ctx) {
      const plan = {
        script: scripts.grantCredits,
        args: [req.userId, req.credits.toString(), JSON.stringify(req.reason)],
      };
      return change(req, ctx, plan, [pb.GrantCreditsResponseSchema, "credits_granted"]);
    },

    async listWalletEntries(req, ctx) {
      const page = pages.of(req, ctx, shopIdOf(req), req.userId);
      const before = ledgerKeyOf(page.after);
      const found = await readList(shops, req, ctx, async (db, shopId) => {
        const user = await findUser(db, shopId, req.userId);
        return user && listWalletEntries(db, shopId, req.userId, before, page.readCount);
      });
      const rows = required(found, "USER_NOT_FOUND", "user", req.userId);
      const { shown, nextPageToken } = page.show(rows, ({ position, index }) => `${position} ${index}`);
      const entries = shown.map((row) =>
        messageFromRow(WalletEntrySchema, { ...row, user_id: req.userId, cause: causeOf(row.cause) }),
      );
      return create(pb.ListWalletEntriesResponseSchema, { entries, nextPageToken });
    },
  };
}

/** A request about one user, with the personal data it may bring. */
interface AboutUser {
  readonly shopId: string;
  readonly userId: string;
  readonly email?: string | undefined;
  readonly displayName?: string | undefined;
}

/** An e-mail as it is kept: as given, but none of blanks only. */
function keptEmail(email: string): string {
  return email.trim() === "" ? "" : email;
}

/** An e-mail as it has to be unique. */
function emailKeyOf(email: string): string {
  return email.trim().toLowerCase();
}

/** The personal data that a request brings, for Postgres alone. */
function secretOf({ email, displayName }: Pick<AboutUser, "email" | "displayName">): string {
  return JSON.stringify({
    ...(email !== undefined && { email: keptEmail(email), email_key: emailKeyOf(email) }),
    ...(displayName !== undefined && { display_name: displayName }),
  });
}

function ledgerKeyOf(key: string): LedgerKey | undefined {
  const [position, index] = key.split(" ").map(Number);
  return position === undefined || index === undefined ? undefined : { position, index };
}

function causeOf(name: string): WalletEntryCause {
  return WalletEntryCause[name as keyof typeof WalletEntryCause];
}
