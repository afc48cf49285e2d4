import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type Commit, CommitSchema, type ReadPoint, ReadPointSchema } from "../../gen/holdfast/v1/resources_pb.js";
import type { CallContext } from "../server/call-context.ts";
import { shopIdOf } from "../shop/ids.ts";
import { messageFromLog } from "../shop/messages.ts";
import type { Committed, Mutation } from "../shop/mutation.ts";
import type { Shops } from "../shop/shops.ts";

/** What a handler says of its mutation; the rest comes from the request and the call. */
export type MutationPlan = Pick<
  Mutation,
  "script" | "args" | "ids" | "lookUp" | "existsReason" | "existsMetadata" | "record" | "preloads" | "isLaterStep"
>;

/** Runs the mutation of a unary call. */
export function mutate(
  shops: Shops,
  req: { readonly shopId: string; readonly requestId: string },
  ctx: CallContext,
  plan: MutationPlan,
): Promise<Committed> {
  return shops.get(shopIdOf(req)).mutate({
    ...plan,
    rpc: ctx.method.name,
    request: { desc: ctx.method.input, message: req },
    requestId: req.requestId,
    principal: ctx.principal,
    traceParent: ctx.traceParent,
    caller: ctx,
  });
}

/**
 * The response of a mutation: the fields of the event it made, under the same names, and the commit. Responses are made
 * from the log, so a replay answers what the first call answered.
 */
export function respond<Desc extends DescMessage>(
  desc: Desc,
  committed: Committed,
  eventName: string,
): MessageShape<Desc> {
  const event = committed.events.find((each) => eventName in each)?.[eventName];
  if (event === undefined) {
    throw new Error(`commit ${committed.position} has no event "${eventName}"`);
  }
  const response = messageFromLog(desc, event);
  (response as unknown as { commit: Commit }).commit = commitMessage(committed);
  return response;
}

/** The Commit of a response. */
export function commitMessage(committed: Committed): Commit {
  return create(CommitSchema, {
    position: BigInt(committed.position),
    epoch: BigInt(committed.epoch),
    commitId: committed.commitId,
    commitTime: timestampOf(committed.timeMs),
    requestId: committed.requestId,
    replayed: committed.replayed,
    durable: committed.durable,
  });
}

/** The ReadPoint of a response. */
export function readPoint(at: { readonly position: number; readonly epoch: number }): ReadPoint {
  return create(ReadPointSchema, { position: BigInt(at.position), epoch: BigInt(at.epoch) });
}

/** A time in milliseconds as a Timestamp. */
export function timestampOf(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  return create(TimestampSchema, { seconds: BigInt(seconds), nanos: (ms - seconds * 1000) * 1_000_000 });
}
