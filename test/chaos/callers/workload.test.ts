import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createShop } from "../../helpers/shop.ts";
import { useHoldfast } from "../../helpers/use-holdfast.ts";
import { checkHistory } from "../../history/check-history.ts";
import { readCommits } from "../../history/read-commits.ts";
import { pause } from "./call-until-known.ts";
import { startWorkload } from "./workload.ts";

const holdfast = useHoldfast();
let folder = "";

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "holdfast-workload-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

test("callers make calls until they are to settle, and note what was acknowledged", async () => {
  const shopId = await createShop(holdfast.grpc);
  const ledgerPath = join(folder, "ledger");
  const workload = await startWorkload({
    seed: 1,
    shopId,
    callerCount: 8,
    watcherCount: 3,
    consumerCount: 2,
    servers: [{ grpc: holdfast.grpcAddress, http: holdfast.httpUrl }],
    ledgerPath,
  });
  workload.resume();
  while (workload.calls.length < 300) await pause(20);
  await workload.settle();
  expect(workload.calls.filter(({ outcome }) => outcome === undefined)).toEqual([]);
  const lines = (await readFile(ledgerPath, "utf8")).trim().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toEqual(workload.acknowledged);
  const acknowledged = workload.calls.filter(
    ({ outcome }) => outcome?.kind === "answered" && outcome.commit !== undefined,
  );
  expect(workload.acknowledged.length).toBe(acknowledged.length);
  const postgres = new Client(holdfast.database.url);
  await postgres.connect();
  const commits = await readCommits(postgres, shopId);
  await postgres.end();
  const madeBy = new Map(commits.map((commit) => [commit.position, commit]));
  for (const each of workload.acknowledged) expect(madeBy.get(each.position)).toMatchObject(each);
  expect(await workload.checkWatchers(commits)).toEqual([]);
  const violations = checkHistory({ shopId, currencyCode: "USD", calls: workload.calls, commits });
  expect(violations.map(({ kind, text }) => `${kind}: ${text}`)).toEqual([]);
  const [left, right] = commits.slice(-2) as [(typeof commits)[0], (typeof commits)[0]];
  const swapped = [
    ...commits.slice(0, -2),
    { ...left, commitId: right.commitId },
    { ...right, commitId: left.commitId },
  ];
  expect(await workload.checkWatchers(swapped)).not.toEqual([]);
  await workload.close();
}, 90_000);
