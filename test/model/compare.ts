import type { DescMethod } from "@bufbuild/protobuf";
import { EventSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import type { AnsweredOutcome, Outcome, RefusedOutcome } from "./caller.ts";
import { methods } from "./decide.ts";
import type { Decision, Refused } from "./decision.ts";
import { differences, normalise, type Plain } from "./plain.ts";
import type { PastCall } from "./state.ts";
import type { WatchedCommit } from "./watched-log.ts";

/** What is wrong with an outcome, in words; undefined = it is as the model says. `pastCall`: what a commit answered. */
export function mismatch(
  rpc: string,
  decision: Decision,
  outcome: Outcome,
  pastCall: (position: number) => PastCall | undefined,
): string | undefined {
  if (decision.kind === "refused") {
    return outcome.kind === "refused" ? mismatchOfRefusal(decision, outcome) : `must be refused: ${write(decision)}`;
  }
  if (decision.kind === "accepted") return "must make a commit";
  if (outcome.kind === "refused") return `must be ${decision.kind}, and not refused`;
  if (decision.kind === "answered") return mismatchOfResponse(rpc, decision.response, outcome.response);
  const { position } = decision;
  if (outcome.commit?.replayed !== true || outcome.commit.position !== position)
    return `must replay commit ${position}`;
  return mismatchOfResponse(rpc, pastCall(position)?.response ?? {}, outcome.response);
}

/** Reasons that may be found without a look at the shop, so that they name no position. */
const saysNothingOfAShop: ReadonlySet<string> = new Set(["VALIDATION_FAILED", "REQUEST_ID_REQUIRED", "SHOP_NOT_FOUND"]);

function mismatchOfRefusal(expected: Refused, actual: RefusedOutcome): string | undefined {
  const { reason, metadata = {}, fieldIn, badField, violations, retryMs } = expected;
  const isAsExpected =
    reason === actual.reason &&
    (saysNothingOfAShop.has(reason) ||
      (actual.metadata.position !== undefined && actual.metadata.epoch !== undefined)) &&
    Object.entries(metadata).every(([name, value]) => actual.metadata[name] === value) &&
    (fieldIn === undefined || fieldIn.includes(actual.metadata.field ?? "")) &&
    (badField === undefined || actual.fields.includes(badField)) &&
    (violations === undefined || violations.join() === actual.violations.join()) &&
    (retryMs === undefined || retryMs === actual.retryMs);
  return isAsExpected ? undefined : `must be refused: ${write(expected)}`;
}

/** Compares what a call answered with what it must answer. */
export function mismatchOfResponse(rpc: string, expected: Plain, actual: Plain): string | undefined {
  const { output } = (methods.get(rpc) as { method: DescMethod }).method;
  const [left, right] = [comparable(rpc, normalise(output, expected)), comparable(rpc, actual)];
  const paths = differences(left, right);
  return paths.length === 0 ? undefined : `must answer otherwise in ${paths.join(", ")}: ${write(left)}`;
}

/** RPCs whose answer has a user as it is now in what is personal: the log does not keep that. */
const impersonal = new Set(["CreateUser", "UpdateUser", "DepositFunds", "WithdrawFunds", "GrantCredits"]);

/** An answer without what the contract leaves open. */
function comparable(rpc: string, response: Plain): Plain {
  if (impersonal.has(rpc)) {
    const { email: _, display_name: __, ...user } = response.user as Plain;
    return { ...response, user };
  }
  if (rpc === "ListWalletEntries") {
    const entries = ((response.entries ?? []) as Plain[]).map(({ index: _, ...entry }) => entry);
    return { ...response, entries };
  }
  if (rpc === "GetShopStats") {
    const { tiers = [], ...stats } = (response.stats ?? {}) as Plain & { readonly tiers?: readonly Plain[] };
    return { stats: { ...stats, tiers: tiers.filter((each) => each.user_count !== undefined) } };
  }
  if (rpc === "PreviewTierChange") {
    const { lines: _, ...quote } = (response.quote ?? {}) as Plain;
    return { quote };
  }
  return response;
}

/** What is wrong with the parts of a quote; undefined = they sum to what it says. */
export function mismatchOfQuote({ quote }: Plain): string | undefined {
  const {
    lines = [],
    charged_credits = 0,
    credited_credits = 0,
  } = quote as {
    readonly lines?: readonly { readonly credits?: number }[];
    readonly charged_credits?: number;
    readonly credited_credits?: number;
  };
  const sum = lines.reduce((total, { credits = 0 }) => total + credits, 0);
  return sum === charged_credits - credited_credits ? undefined : `the lines of the quote sum to ${sum}`;
}

/** Compares the events of a commit with those it must have. */
export function mismatchOfEvents(expected: readonly Plain[], { position, wire }: WatchedCommit): string | undefined {
  const actual = wire.map(({ subjects: _, ...event }) => event);
  const wanted = expected.map((event, index) => normalise(EventSchema, { ...event, position, index }));
  const paths = differences(wanted, actual);
  return paths.length === 0 ? undefined : `events differ in ${paths.join(", ")}: must be ${write(wanted)}`;
}

/** Compares the Commit of an answer with the commit that a watcher saw. */
export function mismatchOfCommit({ commit }: AnsweredOutcome, watched: WatchedCommit): string | undefined {
  const told = {
    position: watched.position,
    epoch: watched.epoch,
    commit_id: watched.commitId,
    commit_time: watched.timeMs,
    request_id: watched.requestId,
    durable: true,
  };
  const { replayed: _, ...seen } = { ...commit };
  const paths = differences(told, { epoch: 0, ...seen });
  return paths.length === 0 ? undefined : `the commit differs in ${paths.join(", ")} from what a watcher was sent`;
}

export function write(value: unknown): string {
  return JSON.stringify(value);
}
