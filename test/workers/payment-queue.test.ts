import { expect, test } from "vitest";
import { PaymentQueue } from "../../src/workers/payment-queue.ts";

/** A queue whose jobs end when they are told to. */
function startQueue(concurrency: number) {
  const begun: string[] = [];
  const ends = new Map<string, (waitMs?: number) => void>();
  let roomCount = 0;
  const queue = new PaymentQueue<string>({
    concurrency,
    run: (job, round) => {
      begun.push(`${job} ${round}`);
      return new Promise((resolve) => {
        ends.set(job, resolve);
      });
    },
    onRoom: () => {
      roomCount += 1;
    },
  });
  const end = async (job: string, waitMs?: number): Promise<void> => {
    ends.get(job)?.(waitMs);
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { queue, begun, end, roomCount: () => roomCount };
}

test("works on so many at the same time, and on the next when one is over", async () => {
  const { queue, begun, end, roomCount } = startQueue(2);
  for (const job of ["a", "b", "c"]) queue.offer(job, job);
  expect(begun).toEqual(["a 1", "b 1"]);
  expect(roomCount()).toBe(0);
  await end("a");
  expect(begun).toEqual(["a 1", "b 1", "c 1"]);
  expect(roomCount()).toBe(1);
});

test("takes a payment once, while it is queued, being worked on, or read before it was over", async () => {
  const { queue, begun, end } = startQueue(1);
  queue.beginLook();
  for (const job of ["a", "a", "b", "b"]) queue.offer(job, job);
  await end("a");
  queue.offer("a", "a");
  await end("b");
  expect(begun).toEqual(["a 1", "b 1"]);
  queue.beginLook();
  queue.offer("a", "a");
  expect(begun, "read after it was over, it is pending anew").toEqual(["a 1", "b 1", "a 1"]);
});

test("leaves a payment alone for as long as it was told, and counts its rounds", async () => {
  const { queue, begun, end } = startQueue(1);
  queue.offer("a", "a");
  await end("a", 60_000);
  queue.offer("a", "a");
  expect(begun).toEqual(["a 1"]);
  queue.offer("b", "b");
  await end("b", 0);
  queue.offer("b", "b");
  expect(begun).toEqual(["a 1", "b 1", "b 2"]);
});

test("has room for a few per place, and forgets what has not begun", async () => {
  const { queue, begun, end } = startQueue(2);
  for (let index = 0; queue.hasRoom; index += 1) queue.offer(`job-${index}`, `job-${index}`);
  expect(begun).toHaveLength(2);
  queue.clear();
  expect(queue.hasRoom).toBe(true);
  await end("job-0");
  await end("job-1");
  expect(begun).toHaveLength(2);
});

test("is idle when nothing is being worked on", async () => {
  const { queue, end } = startQueue(2);
  await queue.idle();
  queue.offer("a", "a");
  queue.offer("b", "b");
  let isIdle = false;
  const idle = queue.idle().then(() => {
    isIdle = true;
  });
  await end("a");
  expect(isIdle).toBe(false);
  await end("b");
  await idle;
});
