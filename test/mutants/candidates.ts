import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { projectFolder } from "./tree.ts";

/** What the tests of a file of `src/shop/` are about; the longer lists of all files follow in any case. */
const own: Readonly<Record<string, readonly string[]>> = {
  "backlog.ts": ["services/outages", "services/overload", "shop/redis-loss"],
  "consumers.ts": ["services/consumers"],
  "default-shop.ts": ["shop/start", "services/admin-service"],
  "earlier-commit.ts": ["shop/replay", "shop/forgotten-ids"],
  "event-batch.ts": ["services/event-service", "services/watch-events"],
  "fence.ts": ["services/fences"],
  "flusher.ts": [
    "shop/lost-answers",
    "shop/redis-loss",
    "shop/postgres-loss",
    "services/availability",
    "services/outages",
  ],
  "ids.ts": ["shop/forgotten-ids", "shop/replay"],
  "keys.ts": ["shop/replay"],
  "load-limits.ts": ["services/order-life-cycles", "services/inventory-service"],
  "loader.ts": ["shop/rebuilt-shop", "shop/slow-rebuild", "shop/partial-reload"],
  "log-entry.ts": ["shop/rebuilt-shop", "shop/replay"],
  "messages.ts": ["shop/messages", "shop/replay", "services/user-service"],
  "open-shop.ts": ["shop/redis-loss", "shop/postgres-loss", "services/availability", "services/admin-service"],
  "mutation.ts": ["shop/replay", "shop/forgotten-ids"],
  "opening.ts": ["shop/slow-rebuild"],
  "order-change.ts": ["shop/cold-orders", "services/order-life-cycles"],
  "outage.ts": ["services/availability", "shop/lost-answers"],
  "past.ts": ["shop/past", "services/watch-events"],
  "preflight.ts": ["shop/start"],
  "progress.ts": ["shop/slow-rebuild", "services/admin-service"],
  "projection.ts": [
    "shop/ledger",
    "services/order-service",
    "services/order-life-cycles",
    "services/subscription-service",
  ],
  "rebuild.ts": ["shop/rebuilt-shop", "services/admin-service", "shop/redis-loss"],
  "rebuild-steps.ts": ["shop/rebuilt-shop", "shop/partial-reload", "services/admin-service"],
  "recordable.ts": ["services/fences"],
  "redis.ts": ["shop/lost-answers", "shop/start", "lua/functions", "services/outages"],
  "redis-functions.ts": ["shop/script-command", "lua/functions", "shop/lost-answers"],
  "refusals.ts": ["services/inventory-service", "services/order-service", "server/refusals"],
  "reply.ts": ["services/order-service", "shop/replay"],
  "script-command.ts": ["shop/script-command", "lua/functions"],
  "script-files.ts": ["lua/scripts", "lua/functions"],
  "scripts.ts": ["lua/scripts", "lua/functions"],
  "shop.ts": [
    "shop/lost-answers",
    "shop/forgotten-ids",
    "shop/cold-orders",
    "services/availability",
    "services/outages",
  ],
  "shop-fence.ts": ["services/fences"],
  "shops.ts": ["shop/postgres-loss", "shop/processes", "shop/hold-expiry", "services/admin-service"],
  "store-state.ts": ["services/outages", "services/availability", "shop/start"],
  "stored-record.ts": ["shop/cold-orders"],
  "tries.ts": ["shop/lost-answers", "services/outages"],
  "units.ts": ["services/order-life-cycles", "shop/rebuilt-shop"],
  "waiters.ts": ["shop/redis-loss", "shop/lost-answers", "services/availability"],
  "watch-hub.ts": ["services/watch-events"],
  "watch.ts": ["services/watch-events", "shop/watch-in-line"],
};

/** The tests of scripts that are not an RPC's. */
const aboutOpening = [
  "shop/rebuilt-shop",
  "shop/partial-reload",
  "shop/redis-loss",
  "shop/postgres-loss",
  "shop/lost-answers",
];

/** Folders whose tests run at last, when nothing that is closer has failed. */
const rest = ["model", "services", "shop", "verify", "workers", "lua"];

/**
 * The test files that may kill a mutant of a source file, in groups that run one after the other until a test fails: what is
 * about this file, then everything that goes through the commit path.
 */
export function candidatesOf(file: string): string[][] {
  const close = file.startsWith("lua/") ? luaCandidates(file) : [testFiles(own[basename(file)] ?? [])];
  const seen = new Set(close.flat());
  const wide = rest.map((folder) => allTests(folder).filter((each) => !seen.has(each)));
  return [...close, ...wide].filter((group) => group.length > 0);
}

function luaCandidates(file: string): string[][] {
  const stem = basename(file, ".lua");
  const users = file.startsWith("lua/include/") ? scriptsWith(stem) : [stem];
  const isAboutOpening = users.some((each) => /^(look|load|keep|finish|read_log|trim_log|peek)$/.test(each));
  const tables = testFiles(users.map((each) => `lua/${each}`).concat(file.includes("include") ? ["lua/remember"] : []));
  return [tables, ...(isAboutOpening ? [testFiles(aboutOpening)] : [])];
}

/** The scripts that include a file, directly or through others. */
function scriptsWith(include: string): string[] {
  const folder = join(projectFolder, "lua");
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((each) => each.endsWith(".lua"));
  const including = (stem: string): string[] =>
    names.filter((name) => includesOf(readFileSync(join(folder, name), "utf8")).includes(stem));
  const found = new Set<string>();
  const waiting = [include];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const fresh = including(next).filter((name) => !found.has(name));
    for (const name of fresh) found.add(name);
    waiting.push(...fresh.filter((name) => name.startsWith("include/")).map((name) => basename(name, ".lua")));
  }
  return [...found].filter((name) => !name.startsWith("include/")).map((name) => basename(name, ".lua"));
}

function includesOf(code: string): string[] {
  return (
    /^-- @include +(.+)$/m
      .exec(code)?.[1]
      ?.split(",")
      .map((name) => name.trim()) ?? []
  );
}

function testFiles(names: readonly string[]): string[] {
  const there = new Set(rest.concat("server").flatMap(allTests));
  return names.map((name) => `test/${name}.test.ts`).filter((path) => there.has(path));
}

function allTests(folder: string): string[] {
  const names = readdirSync(join(projectFolder, "test", folder)).sort();
  return names.filter((name) => name.endsWith(".test.ts")).map((name) => `test/${folder}/${name}`);
}
