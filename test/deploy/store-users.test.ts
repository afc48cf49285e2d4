import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import type { PrivateRedis } from "../../src/dev/private-redis.ts";
import { libraryPrefix } from "../../src/shop/scripts.ts";
import { type HoldfastProcess, runHoldfast, spawnHoldfast } from "../helpers/holdfast.ts";
import { administrate, startRedis } from "../helpers/servers.ts";
import { uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { discrepanciesOf, rebuild, useEverything } from "./use-everything.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const password = "a-password-of-the-test";
const database = uniqueId("db").replace("-", "_");
const shopId = uniqueId("shop");

/** The rules of deploy/redis/users.acl for the user of a server. */
const rules = (/^user holdfast (.+)$/m.exec(read("deploy/redis/users.acl"))?.[1] ?? "").split(" ");
const granted = rules.filter((rule) => rule.startsWith("+")).map((rule) => rule.slice(1));

/** Granted for what does not happen here: a cluster, another database than 0, a full Redis, and a rate that was not given its end. */
const elsewhere = ["cluster|nodes", "cluster|info", "cluster|slots", "asking", "select", "eval", "expire"];

let redis: PrivateRedis;
let redisAdmin: Redis;
let databaseAdmin: Client;
let server: Client;
let holdfast: HoldfastProcess;

function read(path: string): string {
  return readFileSync(join(project, path), "utf8");
}

/** The statements of a file, with the database of the test for that of the file. */
function statementsOf(path: string): string[] {
  const text = read(path)
    .replaceAll(/^--.*$/gm, "")
    .replaceAll(/\bdatabase holdfast\b/g, `database ${database}`);
  return text.split(";").flatMap((statement) => statement.trim() || []);
}

function urlFor(user?: string): string {
  const url = new URL(inject("postgresUrl"));
  url.pathname = `/${database}`;
  if (user !== undefined) [url.username, url.password] = [user, password];
  return url.href;
}

async function connect(user?: string): Promise<Client> {
  const client = new Client({ connectionString: urlFor(user) });
  await client.connect();
  return client;
}

async function runFile(client: Client, path: string): Promise<void> {
  for (const statement of statementsOf(path)) await client.query(statement);
}

beforeAll(async () => {
  redis = await startRedis();
  redisAdmin = new Redis(redis.url);
  await redisAdmin.call("ACL", "SETUSER", "holdfast", ...rules.map((rule) => rule.replace(/^>.*/, `>${password}`)));
  await administrate(...statementsOf("deploy/postgres/roles.sql"));
  await administrate(...["owner", "server"].map((role) => `alter role holdfast_${role} password '${password}'`));
  databaseAdmin = await connect();

  const redisUrl = redis.url.replace(/:\/\/[^@]*@/, `://holdfast:${password}@`);
  const migrated = await runHoldfast(["migrate"], { redisUrl, databaseUrl: urlFor("holdfast_owner") });
  expect(migrated).toMatchObject({ code: 0 });
  const owner = await connect("holdfast_owner");
  await runFile(owner, "deploy/postgres/grants.sql");
  await owner.end();

  server = await connect("holdfast_server");
  await redisAdmin.config("RESETSTAT");
  // What another version of Holdfast left.
  const left = `#!lua name=${libraryPrefix}left\nredis.register_function("${libraryPrefix}left", function() return 1 end)`;
  await redisAdmin.call("FUNCTION", "LOAD", left);
  const settings = { HOLDFAST_MIGRATE_ON_START: "0", HOLDFAST_SHOP_CALLS_PER_SECOND: "1000000" };
  holdfast = await spawnHoldfast({ redisUrl, databaseUrl: urlFor("holdfast_server"), settings });
  await useEverything(holdfast.grpc, shopId);
}, 90_000);

afterAll(async () => {
  await holdfast?.kill();
  await server?.end();
  await databaseAdmin?.end();
  redisAdmin?.disconnect();
  await redis?.stop();
  await administrate(
    `drop database if exists ${database} with (force)`,
    "drop role if exists holdfast_server, holdfast_owner",
  );
});

test("a shop is sold, watched, verified and rebuilt by users that may do nothing else", async () => {
  expect(await discrepanciesOf(holdfast.grpc, shopId)).toEqual([]);
  await redisAdmin.call("FUNCTION", "FLUSH");
  await rebuild(holdfast.http, shopId);
  expect(await discrepanciesOf(holdfast.http, shopId)).toEqual([]);
  expect(await redisAdmin.call("ACL", "LOG")).toEqual([]);
});

describe("the user of Redis", () => {
  const inScripts = readdirSync(join(project, "lua"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".lua"))
    .flatMap((name) => read(join("lua", name)).match(/redis\.p?call\([^,)]+/g) ?? [])
    .flatMap((call) => [...call.matchAll(/"([A-Z]+)"/g)].map(([, command = ""]) => command.toLowerCase()));

  test("may run every command of every script", () => {
    expect(inScripts.length).toBeGreaterThan(100);
    expect([...new Set(inScripts)].filter((command) => !granted.includes(command))).toEqual([]);
  });

  test("may run nothing that is not in use", async () => {
    const stats = await redisAdmin.info("commandstats");
    const used = [...stats.matchAll(/^cmdstat_([^:]+):/gm)].map(([, command = ""]) => command);
    const idle = granted.filter((command) => ![...used, ...inScripts, ...elsewhere].includes(command));
    expect(idle).toEqual([]);
  });

  test.each([
    ["FLUSHALL"],
    ["KEYS", "*"],
    ["CONFIG", "GET", "*"],
    ["ACL", "LIST"],
    ["DEL", "{default}:stock"],
    ["HSET", "another:key", "field", "value"],
    ["PUBLISH", "another-channel", "message"],
    ["CLIENT", "KILL", "TYPE", "normal"],
  ])("may not %s %s", async (...command) => {
    const user = new Redis(redis.url.replace(/:\/\/[^@]*@/, `://holdfast:${password}@`));
    const [name = "", ...args] = command.filter((word) => word !== undefined);
    await expect(user.call(name, ...args)).rejects.toThrow(/^NOPERM/);
    user.disconnect();
  });
});

describe("the role of a server", () => {
  test("uses every privilege that it has", async () => {
    const privileges = await databaseAdmin.query<{ table: string; privileges: string[] }>(
      `select table_name as "table", array_agg(lower(privilege_type) order by privilege_type) as privileges
       from information_schema.role_table_grants where grantee = 'holdfast_server' group by table_name`,
    );
    const idle = async (): Promise<string[]> => {
      const { rows } = await databaseAdmin.query<{ table: string; insert: number; update: number }>(
        `select relname as "table", n_tup_ins::int as insert, n_tup_upd::int as update from pg_stat_user_tables`,
      );
      return privileges.rows.flatMap(({ table, privileges: all }) => {
        const counts = rows.find((row) => row.table === table);
        return all.filter((each) => each !== "select" && !counts?.[each as "insert"]).map((each) => `${each} ${table}`);
      });
    };
    expect(privileges.rows.length).toBeGreaterThan(13);
    await until("PostgreSQL has counted", async () => (await idle()).length === 0).catch(() => {});
    expect(await idle()).toEqual([]);
  });

  test.each([
    "delete from orders",
    "truncate commits",
    "update commits set events = '[]'",
    "update ledger_entries set delta = 0",
    "update secrets set value = 'known'",
    "insert into kysely_migration (name, timestamp) values ('9999', '')",
    "alter table orders add column more text",
    "drop table orders",
    "create table more (id int)",
    "create role more",
    "copy orders to program 'true'",
    "alter system set fsync = off",
  ])("may not %s", async (statement) => {
    await expect(server.query(statement)).rejects.toMatchObject({ code: "42501" });
  });

  test("may not migrate, and is told who does when the schema is old", async () => {
    const settings = { HOLDFAST_MIGRATE_ON_START: "0" };
    const options = { redisUrl: redis.url, databaseUrl: urlFor("holdfast_server"), settings };
    const owner = await connect("holdfast_owner");
    const { rows } = await owner.query(
      "delete from kysely_migration where name = '0003-verifications' returning name, timestamp",
    );
    const { code, stderr } = await runHoldfast(["serve"], options);
    expect([code, stderr]).toEqual([1, expect.stringContaining('run "holdfast migrate" first')]);
    const migrated = await runHoldfast(["migrate"], options);
    expect(migrated).toMatchObject({ code: 1, stderr: expect.stringMatching(refusal("PostgreSQL")) });
    await owner.query("insert into kysely_migration (name, timestamp) values ($1, $2)", [
      rows[0].name,
      rows[0].timestamp,
    ]);
    await owner.end();
  });
});

/** One line, and no stack. */
function refusal(store: "PostgreSQL" | "Redis", what = ".+"): RegExp {
  const file = { PostgreSQL: "deploy/postgres/grants.sql", Redis: "deploy/redis/users.acl" }[store];
  return new RegExp(`^holdfast: ${store} refuses the (role|user) of \\w+: ${what}\\. ${file} [^\\n]+\\n$`);
}

describe("a start without a right says which, and where it is described:", () => {
  const settings = { HOLDFAST_MIGRATE_ON_START: "0" };

  test.each([
    [
      "a table that it may not read",
      "revoke select on kysely_migration",
      "permission denied for table kysely_migration",
    ],
    ["a table that it may not write", "revoke insert, update on shops", "it may not insert shops, update shops"],
    ["a table that it may not write later", "revoke update on consumers", "it may not update consumers"],
    ["what it may not read later", "revoke select on refunds, secrets", "it may not select refunds, select secrets"],
    [
      "a schema that it may not use",
      "revoke usage on schema public",
      "it may use no schema of its search_path, such as public",
    ],
  ])("%s", async (_name, revoke, says) => {
    await databaseAdmin.query("revoke usage on schema public from public");
    await databaseAdmin.query("delete from shops where shop_id = 'default'");
    await databaseAdmin.query(`${revoke} from holdfast_server`);
    const options = { redisUrl: redis.url, databaseUrl: urlFor("holdfast_server"), settings };
    const { code, stderr } = await runHoldfast(["serve"], options);
    await runFile(databaseAdmin, "deploy/postgres/grants.sql");

    expect(stderr).toMatch(refusal("PostgreSQL", says));
    expect(code).toBe(1);
  });

  test.each([
    ["a command that it may not run", "+subscribe", "NOPERM .*subscribe.*"],
    ["channels that are not its own", "&holdfast:*", "NOPERM .*channels.*"],
  ])("%s", async (_name, without, says) => {
    const user = rules.filter((rule) => rule !== without).map((rule) => rule.replace(/^>.*/, `>${password}`));
    await redisAdmin.call("ACL", "SETUSER", "limited", ...user);
    const redisUrl = redis.url.replace(/:\/\/[^@]*@/, `://limited:${password}@`);
    const { code, stderr } = await runHoldfast(["serve"], { redisUrl, databaseUrl: urlFor() });

    expect(stderr).toMatch(refusal("Redis", says));
    expect(code).toBe(1);
  });
});
