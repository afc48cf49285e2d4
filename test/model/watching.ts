import { ConsumerSchema, EventSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import type { Clients } from "../helpers/holdfast.ts";
import { readRefusal } from "./caller.ts";
import type { Step } from "./commands.ts";
import { write } from "./compare.ts";
import { Disagreement } from "./failure.ts";
import { type Plain, toPlain } from "./plain.ts";
import type { Session } from "./session.ts";
import { readBatch } from "./watched-log.ts";

/** Reads a part of the log, and compares it with what the run's own watcher was sent. */
export async function watch(session: Session, { from, how }: Extract<Step, { kind: "watch" }>): Promise<void> {
  await session.catchUp();
  const { events } = session.subject.doors[from % 2 === 0 ? "grpc" : "http"];
  const position = from % session.shop.position;
  if (how === "list") return listEvents(session, events, position);
  if (how === "take over") return takeOver(session, events);
  const before = position === 0 ? undefined : session.log.at(position);
  const afterCommitId = how === "fork" ? "00000000-0000-7000-8000-000000000000" : (before?.commitId ?? "");
  const start = { case: "afterPosition", value: BigInt(position) } as const;
  const request = { shopId: session.shop.shopId, start, afterCommitId, maxCommitsPerMessage: 5 };
  const isForked = how === "fork" && position > 0;
  const end = new AbortController();
  try {
    for await (const { message } of events.watchEvents(request, { signal: end.signal })) {
      if (message.case !== "batches") continue;
      if (isForked) throw new Disagreement("a watcher of another history was sent commits");
      const sent = message.value.batches.map(readBatch);
      await session.log.until(position + sent.length);
      const same = session.log.commits.slice(position, position + sent.length);
      if (write(sent) !== write(same)) throw new Disagreement(`a watcher after ${position} was sent ${write(sent)}`);
      session.coverage.answered("WatchEvents");
      break;
    }
  } catch (error) {
    expectReason(session, error, isForked ? "HISTORY_CHANGED" : "none", "WatchEvents");
  } finally {
    end.abort();
  }
}

function expectReason(session: Session, error: unknown, reason: string, rpc: string): void {
  if (error instanceof Disagreement) throw error;
  const refusal = readRefusal(error);
  if (refusal.reason !== reason) throw new Disagreement(`${rpc} was ${write(refusal)}, and must be ${reason}`);
  session.coverage.refused(rpc, reason);
}

/** Reads a page of events, which holds whole commits, until nothing was committed meanwhile. */
async function listEvents(session: Session, { listEvents }: Clients["events"], position: number): Promise<void> {
  const newestFirst = position % 3 === 0;
  const pageSize = 20;
  for (;;) {
    const before = await session.catchUp();
    const request = { shopId: session.shop.shopId, afterPosition: BigInt(position), newestFirst, pageSize };
    const { events } = await listEvents(request);
    if (before !== (await session.catchUp())) continue;
    const { commits } = session.log;
    const wanted: Plain[] = [];
    const older = position === 0 ? commits : commits.slice(0, position - 1);
    for (const { wire } of newestFirst ? older.toReversed() : commits.slice(position)) {
      if (wanted.length < pageSize) wanted.push(...wire);
    }
    const found = events.map((event) => toPlain(EventSchema, event));
    if (write(found) !== write(wanted)) {
      throw new Disagreement(`ListEvents after ${position} answered ${write(found)}, and must answer ${write(wanted)}`);
    }
    session.coverage.answered("ListEvents");
    return;
  }
}

/** Two watchers under one name: the older one is told that it was taken over. */
async function takeOver(session: Session, { watchEvents }: Clients["events"]): Promise<void> {
  const request = { shopId: session.shop.shopId, start: { case: "consumer", value: "taken" } } as const;
  const end = new AbortController();
  const older = watchEvents(request, { signal: end.signal })[Symbol.asyncIterator]();
  await older.next();
  const newer = watchEvents(request, { signal: end.signal })[Symbol.asyncIterator]();
  try {
    await newer.next();
    for (let item = await older.next(); item.done !== true; item = await older.next());
    throw new Disagreement("the older of two watchers ended without being told why");
  } catch (error) {
    expectReason(session, error, "CONSUMER_TAKEN", "WatchEvents");
  } finally {
    end.abort();
    await newer.next().catch(() => undefined);
  }
}

/** Acknowledges and reads what consumers remember. */
export async function consume(
  session: Session,
  { consumer: number, from, how }: Extract<Step, { kind: "consumer" }>,
): Promise<void> {
  const head = await session.catchUp();
  const { shopId, consumers } = session.shop;
  const { events } = session.subject.doors[from % 2 === 0 ? "grpc" : "http"];
  const consumer = `consumer-${number}`;
  const known = consumers.get(consumer);
  if (how === "ack") {
    const asked = from % (head + 1);
    const { position } = await events.ackEvents({ shopId, consumer, position: BigInt(asked) });
    const reached = Math.max(asked, known?.position ?? 0);
    if (Number(position) !== reached)
      throw new Disagreement(`AckEvents of ${asked} answered ${position}, not ${reached}`);
    consumers.set(consumer, { position: reached });
    session.coverage.answered("AckEvents");
  } else if (how === "ahead") {
    const position = from % 2 === 0 ? BigInt(Number.MAX_SAFE_INTEGER) : BigInt(head + 1_000_000);
    await expectRefused(session, events.ackEvents({ shopId, consumer, position }), "AckEvents", "POSITION_AHEAD");
    const page = events.listEvents({ shopId, afterPosition: position });
    await expectRefused(session, page, "ListEvents", "POSITION_AHEAD");
  } else if (known === undefined) {
    await expectRefused(session, events.getConsumer({ shopId, consumer }), "GetConsumer", "CONSUMER_NOT_FOUND");
  } else {
    await readConsumers(session, events, consumer, known.position, head);
  }
}

async function expectRefused(session: Session, call: Promise<unknown>, rpc: string, reason: string): Promise<void> {
  const answer = await call.catch((error) => {
    expectReason(session, error, reason, rpc);
    return undefined;
  });
  if (answer !== undefined) throw new Disagreement(`${rpc} was answered, and must be refused: ${reason}`);
}

async function readConsumers(
  session: Session,
  events: Clients["events"],
  consumer: string,
  position: number,
  head: number,
): Promise<void> {
  const { shopId, consumers } = session.shop;
  const read = await events.getConsumer({ shopId, consumer });
  const listed = await events.listConsumers({ shopId });
  const lag = Number(read.consumer?.lagCount ?? -1n);
  const after = await session.catchUp();
  if (Number(read.consumer?.position) !== position || lag < head - position || lag > after - position) {
    throw new Disagreement(
      `GetConsumer answered ${write(toPlain(ConsumerSchema, read.consumer as object))}, not ${position}`,
    );
  }
  const names = listed.consumers.map((each) => each.consumer).filter((name) => name !== "taken");
  if (write(names) !== write([...consumers.keys()].sort()))
    throw new Disagreement(`ListConsumers named ${write(names)}`);
  session.coverage.answered("GetConsumer");
  session.coverage.answered("ListConsumers");
}
