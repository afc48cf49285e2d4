import { expect, test } from "vitest";
import type { GoodCall } from "./decision-tables.ts";
import { changesBetween, type Dump } from "./dump.ts";
import { type Arguments, type LuaShop, readEntries, type useShops } from "./fixture.ts";
import { givenSubscriber, givenTiers, periodMs, renewalIdOf, setCredits } from "./subscriptions.ts";

/** The commit id of the runs whose renewal is compared. */
const commitId = "11111111-1111-7111-8111-111111111111";

/** What a shop is once the renewal of `u1` was committed by a run of that commit id, and nothing else. */
async function afterRenewal(shop: LuaShop, clockMs: number): Promise<Dump> {
  const restore = await shop.snapshot();
  await shop.raw("renewSubscriptions", { commit_id: commitId, clock_ms: clockMs, user_id: "u1" });
  const dump = await shop.dump();
  await restore();
  return dump;
}

/** Exact renewal: the due period of the user a call is about ends in a commit before it is answered, and nobody else's. */
export function describeRenewal(
  shops: ReturnType<typeof useShops>,
  { script, args }: GoodCall,
  given?: (shop: LuaShop) => Promise<unknown>,
): void {
  const open = async () => {
    const shop = await shops.open();
    await givenTiers(shop);
    const startMs = await givenSubscriber(shop, "u1", "pro", 20_000);
    await givenSubscriber(shop, "other", "pro");
    await given?.(shop);
    return { shop, endMs: startMs + periodMs, from: Number((await shop.dump()).meta?.position) + 1 };
  };
  const run = (shop: LuaShop, own: Arguments) => shop.run(script, { ...args, commit_id: commitId, ...own });

  test("commits the user's due renewal first, as an entry of its own", async () => {
    const { shop, endMs, from } = await open();
    const renewed = await afterRenewal(shop, endMs + 10);
    expect(renewed.log).toHaveProperty(`${from}-0`);
    await run(shop, { clock_ms: endMs + 10 });
    const entries = await readEntries(shop, from);
    expect(entries[0]?.commitId).toBe(renewalIdOf(commitId));
    expect((await shop.dump()).log).toMatchObject(renewed.log as object);
    expect((await shop.dump()).renewals).toMatchObject({ other: expect.any(String) });
    expect(entries.flatMap(({ events }) => JSON.stringify(events)).join()).not.toContain('"other"');
  });

  test("changes nothing but the renewal when it is refused", async () => {
    const { shop, endMs } = await open();
    await setCredits(shop, "u1", 2900);
    const renewed = await afterRenewal(shop, endMs);
    const reply = await run(shop, { clock_ms: endMs });
    expect(reply).toMatchObject({ kind: "REFUSED", commitId: renewalIdOf(commitId) });
    expect(changesBetween(renewed, await shop.dump())).toEqual({});
  });

  test("leaves the renewal alone until the very millisecond it is due", async () => {
    const { shop, endMs, from } = await open();
    await run(shop, { clock_ms: endMs - 1 });
    const entries = await readEntries(shop, from);
    expect(entries.map((entry) => entry.commitId)).not.toContain(renewalIdOf(commitId));
  });

  test("ends one period at a time and asks to be run again", async () => {
    const { shop, endMs, from } = await open();
    await setCredits(shop, "u1", 2900 * 3);
    const clock_ms = endMs + 2 * periodMs;
    const again = { request_id: "again", clock_ms };
    expect(await shop.run(script, { ...args, ...again })).toMatchObject({ kind: "AGAIN", position: from });
    expect(await shop.run(script, { ...args, ...again })).toMatchObject({ kind: "AGAIN", position: from + 1 });
    await shop.run(script, { ...args, ...again });
    const entries = await readEntries(shop, from);
    expect(entries.slice(0, 3).map(({ events }) => events)).toMatchObject(
      [0, 1, 2].map((count) => [
        {
          subscription_renewed: {
            subscription: { period_start_time: endMs + count * periodMs },
            charged_credits: 2900,
          },
        },
      ]),
    );
  });
}
