import { afterAll, beforeAll, expect, it } from "vitest";
import { startWorker } from "../helpers/example.ts";
import { createShop } from "../helpers/shop.ts";
import { type SmtpSink, startSmtpSink } from "../helpers/smtp-sink.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const killCount = 22;
const userCount = 330;
/** Users that are created ahead of the worker, so that it never runs dry before it is killed. */
const backlogCount = 60;
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

const holdfast = useHoldfast();
let sink: SmtpSink;

beforeAll(async () => {
  sink = await startSmtpSink();
});

afterAll(async () => {
  await sink?.stop();
});

/** A small random generator, so that a failure can be repeated: run again with SEED. */
function createRandom(state: number): () => number {
  let next = state;
  return () => {
    next = (Math.imul(next, 1_664_525) + 1_013_904_223) >>> 0;
    return next / 2 ** 32;
  };
}

/** Resolves when the sink has got so many e-mails. */
async function mailsReach(count: number): Promise<void> {
  await expect.poll(() => sink.mails.length, { timeout: 20_000, interval: 1 }).toBeGreaterThanOrEqual(count);
}

it(`a worker that is killed ${killCount} times handles every event, and twice only what it had not acknowledged (SEED=${seed})`, async () => {
  const random = createRandom(seed);
  const shopId = await createShop(holdfast.grpc);
  const { events, users } = holdfast.grpc;
  const positions = new Map<string, number>();
  let wanted = backlogCount;
  const createUsers = async (): Promise<void> => {
    while (positions.size < Math.min(wanted, userCount)) {
      const userId = `u${positions.size}`;
      const { commit } = await users.createUser({ shopId, userId, email: `${userId}@example.com` });
      positions.set(`${userId}@example.com`, Number(commit?.position));
    }
  };
  const acknowledged = async (): Promise<number> => {
    const found = await events.getConsumer({ shopId, consumer: "welcome-email" });
    return Number(found.consumer?.position);
  };
  const start = (run: number) =>
    startWorker("welcome-email", {
      HOLDFAST_GRPC: `http://${holdfast.grpcAddress}`,
      HOLDFAST_SHOP: shopId,
      SMTP_URL: sink.url,
      MAIL_FROM: `run-${run}@example.com`,
    });

  await createUsers();
  /** What was acknowledged when each run began. */
  const acknowledgedAtStart = [0];
  for (let run = 0; run < killCount; run += 1) {
    const worker = start(run);
    const creating = createUsers();
    await mailsReach(sink.mails.length + 1 + Math.floor(random() * 11));
    // Somewhere between the end of this e-mail and the next but one.
    await new Promise((resolve) => setTimeout(resolve, random() * 12));
    worker.signal("SIGKILL");
    await worker.ended;
    await creating;
    wanted = positions.size + backlogCount / 4;
    acknowledgedAtStart.push(await acknowledged());
  }
  wanted = userCount;
  const last = start(killCount);
  await createUsers();
  const { shop } = await holdfast.grpc.admin.getShop({ shopId });
  await expect.poll(acknowledged, { timeout: 20_000 }).toBe(Number(shop?.durablePosition));
  last.signal("SIGTERM");
  expect(await last.ended, last.output).toBe(0);

  expect(positions.size).toBe(userCount);
  const receivers = sink.mails.map(({ to }) => to[0] as string);
  expect(new Set(receivers), "nobody is left out").toEqual(new Set(positions.keys()));
  for (const { from, to } of sink.mails) {
    const run = Number(from.slice("run-".length, from.indexOf("@")));
    expect(positions.get(to[0] as string), `${to[0]} in run ${run}`).toBeGreaterThan(
      acknowledgedAtStart[run] as number,
    );
  }
  // One at a time: of each run only the event at hand may not have been acknowledged.
  expect(receivers.length - userCount, "e-mails sent twice").toBeLessThanOrEqual(killCount);
  const ids = new Map<string, string>();
  for (const { to, headers } of sink.mails) {
    const id = headers.get("message-id") as string;
    expect(ids.get(id) ?? to[0], "the second copy has the id of the first").toBe(to[0]);
    ids.set(id, to[0] as string);
  }
  expect(ids.size).toBe(userCount);
}, 120_000);
