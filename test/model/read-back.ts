import { send } from "./caller.ts";
import { mismatchOfResponse, write } from "./compare.ts";
import { type Call, lists } from "./decide.ts";
import { Disagreement, describe } from "./failure.ts";
import type { Plain } from "./plain.ts";
import type { Session } from "./session.ts";
import type { Hold } from "./state.ts";

/** Reads everything that can be listed, whole, and compares it with the model. */
export async function readBack(session: Session): Promise<void> {
  const { shop } = session;
  const reads: Call[] = ["GetShop", "GetShopStats"].map((rpc) => readCall(rpc, {}));
  reads.push(...[...shop.products.keys()].map((sku) => readCall("GetStock", { sku })));
  reads.push(...[...shop.users.keys()].map((user_id) => readCall("GetSubscription", { user_id })));
  reads.push(...[...shop.holds.values()].slice(-20).map(({ id }: Hold) => readCall("GetHold", { hold_id: id })));
  for (let index = 0; index < reads.length; index += 20) await session.callAll(reads.slice(index, index + 20));
  await findOwnShop(session);
  const ofUsers = [...shop.users.keys()].slice(0, 12);
  for (const rpc of Object.keys(lists) as (keyof typeof lists)[]) {
    const requests =
      rpc === "ListWalletEntries" || rpc === "ListTierChanges" ? ofUsers.map((user_id) => ({ user_id })) : [{}];
    for (const request of requests) await walk(session, rpc, request);
  }
}

/** Looks for the run's shop in the list of all. */
async function findOwnShop(session: Session): Promise<void> {
  const { admin } = session.subject.doors.http;
  const seen: string[] = [];
  for (let pageToken = ""; ; ) {
    const page = await admin.listShops({ pageSize: 500, pageToken });
    seen.push(...page.shops.map(({ shopId }) => shopId));
    pageToken = page.nextPageToken;
    if (pageToken === "") break;
  }
  const isSorted = seen.every((shopId, index) => index === 0 || (seen[index - 1] as string) < shopId);
  if (!isSorted || !seen.includes(session.shop.shopId)) throw new Disagreement(`ListShops answered ${write(seen)}`);
  session.coverage.answered("ListShops");
}

/** Reads a list page by page, until nothing was committed meanwhile, and compares it with the model's. */
async function walk(session: Session, rpc: keyof typeof lists, request: Plain): Promise<void> {
  const { field, items } = lists[rpc];
  for (;;) {
    const before = await session.catchUp();
    const found: Plain[] = [];
    for (let token = ""; ; ) {
      const call = readCall(rpc, { ...request, page_size: 100, ...(token !== "" && { page_token: token }) });
      const outcome = await send(session.subject.doors, session.shop.shopId, call);
      if (outcome.kind === "refused") throw new Disagreement(`${describe(call)}\n  was ${write(outcome)}`);
      session.coverage.answered(rpc);
      found.push(...((outcome.response[field] ?? []) as Plain[]));
      token = (outcome.response.next_page_token as string | undefined) ?? "";
      if (token === "") break;
    }
    const after = await session.catchUp();
    if (before !== after) continue;
    const wrong = mismatchOfResponse(rpc, { [field]: items(session.shop, request) }, { [field]: found });
    if (wrong !== undefined)
      throw new Disagreement(`${rpc} ${write(request)}, all pages\n  ${wrong}\n  was ${write(found)}`);
    return;
  }
}

/** Has the live state loaded anew: nothing may change. */
export async function rebuild(session: Session): Promise<void> {
  await session.catchUp();
  const { admin } = session.subject.doors.grpc;
  let isDone = false;
  for await (const { done } of admin.rebuildShop({ shopId: session.shop.shopId })) isDone ||= done;
  if (!isDone) throw new Disagreement("RebuildShop ended without being done");
  session.coverage.answered("RebuildShop");
}

/** Has the server check itself. */
export async function verify(session: Session): Promise<void> {
  const { admin } = session.subject.doors.http;
  let isDone = false;
  for await (const { done, discrepancies } of admin.verifyShop({ shopId: session.shop.shopId })) {
    isDone ||= done;
    if (discrepancies.length > 0) {
      const found = discrepancies.map(({ kind, subject, expected, found }) => ({ kind, subject, expected, found }));
      throw new Disagreement(`VerifyShop found ${write(found.slice(0, 10))}`);
    }
  }
  if (!isDone) throw new Disagreement("VerifyShop ended without being done");
  session.coverage.answered("VerifyShop");
}

function readCall(rpc: string, request: Plain): Call {
  return { rpc, request, requestId: "", door: "grpc", idBy: "field" };
}
