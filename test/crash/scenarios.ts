import { RebuildMode } from "../../gen/holdfast/v1/admin_service_pb.js";
import type { CrashStep } from "../../src/crash-point.ts";
import type { HoldfastProcess } from "../helpers/holdfast.ts";
import { copyShop, restoreShop, type ShopCopy } from "../helpers/redis-state.ts";
import { until } from "../helpers/until.ts";
import { everyday, type Mix } from "./calls.ts";
import { isDown, type Stage } from "./stage.ts";

/** What a victim is brought to a crash point with. */
export interface Scenario {
  readonly mix: Mix;
  /** Whether the others stand still until the victim is down, so that nobody gets to the step before it. */
  readonly alone: boolean;
  /** Whether what it does to a store is in no event, so that VerifyShop must find it. */
  readonly editsTables?: true;
  /** Done once, right before the trap is set. */
  readonly prepare?: (scene: Scene) => Promise<void>;
  /** Done again and again until the victim is down. */
  readonly provoke?: (scene: Scene) => Promise<void>;
  /** Whether callers meet a fence, which ends without anybody's doing or with what `follow` does. */
  readonly fences?: true;
  /** Done when the last victim is down, and the others go on. */
  readonly follow?: (scene: Scene) => Promise<void>;
}

/** Where a scenario plays. */
export interface Scene {
  readonly stage: Stage;
  readonly shopId: string;
  readonly victim: HoldfastProcess;
  readonly rescuer: HoldfastProcess;
  /** Resolves when the victim is down, and after so many milliseconds at the latest. */
  readonly down: (mostMs: number) => Promise<void>;
}

/** A copy of a shop's keys, as it was before. */
const copies = new Map<string, ShopCopy>();

export const scenarios = {
  /** Mixed calls through both servers. */
  load: { mix: { ...everyday, createShop: 0.3 }, alone: false },

  /** The same, and Redis loses everything together with the victim: only Postgres knows what was acknowledged. */
  bothLost: { mix: everyday, alone: false, follow: emptyRedis },

  /** Redis loses everything. */
  emptied: { mix: everyday, alone: true, provoke: emptyRedis },

  /** Redis goes back to what it was when the load began. */
  lostTail: {
    mix: everyday,
    alone: true,
    prepare: async ({ stage, shopId }) => {
      copies.set(shopId, await copyShop(stage.redis, shopId));
    },
    provoke: ({ stage, shopId }) => restoreShop(stage.redis, shopId, copies.get(shopId) ?? []),
  },

  /** The state is rebuilt although the log is whole: what it holds beyond Postgres' head is taken along. */
  forced: {
    mix: everyday,
    alone: true,
    provoke: ({ victim, shopId, down }) => asLongAsItStands(down, rebuild(victim, shopId)),
  },

  /** Postgres has an older epoch than Redis, as after it was put back to a copy. */
  olderEpoch: {
    mix: everyday,
    alone: true,
    provoke: async ({ stage, shopId }) => {
      await stage.postgres.query("update shops set epoch = epoch - 1 where shop_id = $1", [shopId]);
    },
  },

  /** Postgres takes nothing for a while, and the log grows. */
  stalled: {
    mix: everyday,
    alone: true,
    provoke: (scene) => holdRow(scene),
  },

  /** Redis loses everything while somebody else has the shop's row. */
  contended: {
    mix: everyday,
    alone: true,
    provoke: (scene) => holdRow(scene, emptyRedis),
  },

  /** Postgres takes no connections. */
  away: {
    mix: { readStock: 50, walletOrder: 1 },
    alone: true,
    provoke: async ({ stage, shopId, victim, down }) => {
      // Only a shop that it has open, and of which it knows what is durable, is read without Postgres.
      const serves = () =>
        victim.grpc.inventory.getStock({ shopId, sku: "s0" }).then(
          () => true,
          () => isDown(victim),
        );
      await until("the victim serves", serves);
      const allow = "update pg_database set datallowconn = $1 where datname = current_database()";
      await stage.postgres.query(allow, [false]);
      await stage.postgres.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
      );
      await down(2000);
      await stage.postgres.query(allow, [true]);
    },
  },

  /** Postgres refuses a commit because of what it holds, until an operator mends that. */
  fenced: {
    mix: everyday,
    alone: true,
    fences: true,
    prepare: async ({ stage, shopId }) => {
      await stage.postgres.query(
        `alter table shops add constraint crash_fence check (shop_id <> '${shopId}' or head_position < 40) not valid`,
      );
    },
    follow: async ({ stage }) => {
      await stage.postgres.query("alter table shops drop constraint crash_fence");
    },
  },

  /** Redis knows of commits that Postgres does not have, and an operator accepts their loss. */
  lossAccepted: {
    mix: everyday,
    alone: true,
    editsTables: true,
    fences: true,
    provoke: async ({ stage, shopId, victim, down }) => {
      await stage.redis.hincrby(`{${shopId}}:meta`, "flushed", 1000);
      await asLongAsItStands(down, rebuild(victim, shopId, RebuildMode.ACCEPT_LOSS));
    },
    follow: ({ rescuer, shopId }) => rebuild(rescuer, shopId, RebuildMode.ACCEPT_LOSS),
  },

  /** Redis loses what calls did long ago, which Postgres still knows. */
  forgotten: {
    mix: { ...everyday, confirmOld: 5 },
    alone: true,
    provoke: emptyRedis,
  },

  /** Products get a limit after they were sold. */
  limited: { mix: { walletOrder: 1, put: 2, stock: 2, sell: 4, limit: 2 }, alone: false },

  /** Holds become due, and the sweeper finds them. */
  due: { mix: { walletOrder: 2, shortHold: 2 }, alone: true },

  /** Holds become due, and readers find them. */
  dueRead: { mix: { shortHold: 1, readDue: 20 }, alone: true },

  /** Subscriptions are due. */
  renewal: {
    mix: { walletOrder: 1, deposit: 1 },
    alone: true,
    editsTables: true,
    prepare: async ({ victim, shopId }) => {
      for (const userId of ["u0", "u1", "u2"]) {
        await victim.grpc.users.grantCredits({ shopId, userId, credits: 100_000n, reason: "for renewals" });
        await victim.grpc.subscriptions.changeTier({ shopId, userId, tier: "pro" });
      }
    },
    provoke: async ({ stage, shopId }) => {
      await stage.postgres.query(
        `update subscriptions set period_start_time = period_start_time - interval '31 days',
          period_end_time = period_end_time - interval '31 days'
        where shop_id = $1 and period_end_time > now()`,
        [shopId],
      );
      await stage.redis.flushall();
    },
  },

  /** Orders are charged, and money is given back, at a gateway. The victim leads the payments. */
  gateway: {
    mix: { walletOrder: 1, gatewayOrder: 6, refund: 5, readPending: 6 },
    alone: true,
    prepare: async ({ stage }) => {
      await stage.postgres.query(
        "select pg_terminate_backend(pid) from (select distinct pid from pg_locks where locktype = 'advisory') l",
      );
    },
  },
} as const satisfies Record<string, Scenario>;

/** How a step is reached: by a scenario, or by starting on new stores; `hits`: the trap is set at one of the first so many passes. */
export interface Reach {
  readonly scenario: keyof typeof scenarios | "firstStart";
  readonly hits: number;
}

const by = (scenario: Reach["scenario"], hits = 1): Reach => ({ scenario, hits });

/** How every step is reached. */
export const reaches: Readonly<Record<CrashStep, Reach>> = {
  "start: migrate": by("firstStart"),
  "start: load functions": by("firstStart"),
  "start: make default shop": by("firstStart"),
  "start: seed": by("firstStart"),
  call: by("load", 40),
  handler: by("bothLost", 40),
  "mutation: open": by("emptied", 2),
  "mutation: read record": by("load", 3),
  "mutation: run script": by("bothLost", 40),
  "mutation: become durable": by("bothLost", 40),
  "mutation: look up": by("forgotten", 4),
  "mutation: load first": by("forgotten"),
  "mutation: read commit": by("forgotten"),
  "read: open": by("load", 4),
  "read: run script": by("load", 4),
  "read: end what is due": by("dueRead"),
  "read: become durable": by("load", 4),
  "read: Postgres": by("load", 4),
  "read alone: run script": by("away"),
  "change user: read": by("load", 4),
  "create shop: insert": by("load"),
  "create shop: read back": by("load"),
  "limits: count": by("limited", 2),
  "limits: load": by("limited", 2),
  "expire: run script": by("due"),
  "renew: run script": by("renewal"),
  "flush: connect": by("load", 4),
  "flush: read head": by("load", 4),
  "flush: look at log": by("bothLost", 20),
  "flush: append": by("bothLost", 20),
  "flush: release": by("bothLost", 20),
  "flush: trim": by("load", 4),
  "flush: open": by("lostTail"),
  "open: watch others": by("contended"),
  "open: lock": by("emptied", 2),
  "open: look": by("emptied", 2),
  "open: raise epoch": by("olderEpoch"),
  "open: commit": by("emptied", 2),
  "open: keep": by("olderEpoch"),
  "open: finish": by("emptied"),
  "rebuild: ask for memory": by("forced"),
  "rebuild: lock again": by("emptied"),
  "rebuild: look back": by("lostTail"),
  "rebuild: read lost": by("lostTail"),
  "rebuild: forget": by("lostTail", 4),
  "rebuild: count": by("emptied"),
  "rebuild: load": by("emptied", 16),
  "rebuild: read log": by("forced"),
  "rebuild: drain log": by("forced"),
  "rebuild: accept loss": by("lossAccepted"),
  "rebuild: set epoch": by("lostTail"),
  "sweep: connect": by("load"),
  "sweep: list shops": by("load"),
  "sweep: list renewals": by("load"),
  "sweep: peek": by("load"),
  "sweep: trim": by("load"),
  "sweep: flush": by("stalled"),
  "sweep: flush fenced": by("fenced"),
  "sweep: expire": by("due"),
  "sweep: flush expired": by("due"),
  "sweep: renew": by("renewal"),
  "sweep: flush renewed": by("renewal"),
  "payments: connect": by("gateway"),
  "payments: lead": by("gateway"),
  "payments: list": by("gateway", 3),
  "payments: charge": by("gateway", 4),
  "payments: settle charge": by("gateway", 4),
  "payments: refund": by("gateway", 2),
  "payments: settle refund": by("gateway", 2),
  "consumer: take": by("load"),
  "consumer: acknowledge": by("load", 3),
  "watch: read commits": by("load", 2),
};

async function emptyRedis({ stage }: Scene): Promise<void> {
  await stage.redis.flushall();
}

/** Takes the shop's row, does something, and keeps the row until the victim is down. */
async function holdRow(scene: Scene, meanwhile?: (scene: Scene) => Promise<void>): Promise<void> {
  const { stage, shopId, down } = scene;
  await stage.postgres.query("begin");
  await stage.postgres.query("select from shops where shop_id = $1 for update", [shopId]);
  await meanwhile?.(scene);
  await down(3000);
  await stage.postgres.query("rollback");
}

async function rebuild({ grpc }: HoldfastProcess, shopId: string, mode = RebuildMode.UNSPECIFIED): Promise<void> {
  for await (const _ of grpc.admin.rebuildShop({ shopId, mode }));
}

/** Waits for what the victim is to die of, or to stand still in: then it never ends. */
async function asLongAsItStands(down: Scene["down"], work: Promise<void>): Promise<void> {
  await Promise.race([work.catch(() => {}), down(10_000)]);
}
