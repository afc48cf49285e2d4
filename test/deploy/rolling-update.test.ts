import { Agent } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createGrpcTransport as createConnectNodeGrpcTransport,
  createConnectTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import {
  EventService,
  type WatchEventsRequestSchema,
  type WatchEventsResponse,
} from "../../gen/holdfast/v1/event_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { createGrpcTransport } from "../../src/client/index.ts";
import { type Acknowledged, auditShop } from "../helpers/audit.ts";
import { type Doors, openDoors, spawnHoldfast } from "../helpers/holdfast.ts";
import { commitOf } from "../helpers/load.ts";
import { createShop, uniqueId } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useStores } from "../helpers/use-holdfast.ts";
import { type Balancer, readiness, startBalancer } from "./balancer.ts";

const stores = useStores();
let cleanUp: AsyncDisposableStack;
beforeEach(() => {
  cleanUp = new AsyncDisposableStack();
});
afterEach(() => cleanUp.disposeAsync());

/** Long enough for everything that the test wants to see in it. */
const settings = { HOLDFAST_DRAIN_DELAY_SECONDS: "2" };

async function start() {
  const holdfast = await spawnHoldfast({ ...stores.urls, settings });
  cleanUp.defer(() => holdfast.kill());
  return holdfast;
}

/** Connections of one caller to each door: by grpc-js, by connect-node, and by HTTP/1.1 with JSON. */
function openTransports({ grpcAddress, httpUrl }: Balancer): Transport[] {
  const grpcJs = createGrpcTransport({ target: grpcAddress });
  const baseUrl = `http://${grpcAddress}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  cleanUp.defer(() => {
    grpcJs.close();
    sessionManager.abort();
    agent.destroy();
  });
  return [
    grpcJs,
    createConnectNodeGrpcTransport({ baseUrl, sessionManager }),
    createConnectTransport({ baseUrl: httpUrl, httpVersion: "1.1", useBinaryFormat: false, nodeOptions: { agent } }),
  ];
}

/** UNAVAILABLE, or what connect-node makes of it when a connection closes under a call that was never taken. */
function isUnavailable({ code, message }: ConnectError): boolean {
  return code === Code.Unavailable || (code === Code.Internal && message.includes("NGHTTP2_REFUSED_STREAM"));
}

/** Makes a call until it is answered; anything but UNAVAILABLE is thrown. */
async function retryUnavailable<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      if (!isUnavailable(ConnectError.from(error)) || attempt === 20) throw error;
      await sleep(10 * attempt);
    }
  }
}

/** Callers that buy one unit after the other until they are stopped. */
function startCallers(transports: readonly Transport[], shopId: string) {
  const acknowledged: Acknowledged[] = [];
  let isOver = false;
  const buy = async (transport: Transport): Promise<void> => {
    const orders = createClient(OrderService, transport);
    while (!isOver) {
      const request = { shopId, requestId: uniqueId("r"), userId: "ann", lines: [{ sku: "ps5", quantity: 1 }] };
      acknowledged.push(commitOf(await retryUnavailable(() => orders.placeOrder(request))));
    }
  };
  const result = Promise.all(transports.map(buy)).then(() => acknowledged);
  result.catch(() => {});
  const more = async (count: number): Promise<void> => {
    const wanted = acknowledged.length + count;
    // A caller that failed ends the wait with its error.
    await Promise.race([until("more is sold", () => acknowledged.length >= wanted, 30_000), result]);
  };
  const stop = (): Promise<readonly Acknowledged[]> => {
    isOver = true;
    return result;
  };
  return { more, stop };
}

/** Follows a shop, and resumes after the last position whenever the stream ends well or with UNAVAILABLE. */
function startWatcher(transport: Transport, shopId: string) {
  const events = createClient(EventService, transport);
  const positions: bigint[] = [];
  const counts = { watches: 0 };
  const over = new AbortController();
  const follow = async (): Promise<void> => {
    let resume: MessageInitShape<typeof WatchEventsRequestSchema> = {};
    for (;;) {
      counts.watches += 1;
      const stream: AsyncIterable<WatchEventsResponse> = events.watchEvents(
        { shopId, ...resume },
        { signal: over.signal },
      );
      for await (const { message } of stream) {
        if (message.case !== "batch") continue;
        const { position, commitId: afterCommitId } = message.value;
        positions.push(position);
        resume = { start: { case: "afterPosition", value: position }, afterCommitId };
      }
    }
  };
  const failure = (async () => {
    for (;;) {
      const error = ConnectError.from(await follow().catch((reason: unknown) => reason));
      if (over.signal.aborted) return undefined;
      if (!isUnavailable(error)) return error;
    }
  })();
  return { positions, counts, failure, stop: () => over.abort() };
}

/** What a server's health says as long as it lives, the same twice left out. */
async function watchHealth({ grpcAddress }: Doors): Promise<Status[]> {
  const transport = createConnectNodeGrpcTransport({ baseUrl: `http://${grpcAddress}` });
  const seen: Status[] = [];
  for await (const { status } of createClient(Health, transport).watch({})) {
    if (seen.at(-1) !== status) seen.push(status);
  }
  return seen;
}

test("a rolling update fails no call, refuses no connection and leaves no gap in a watch", {
  timeout: 90_000,
}, async () => {
  const balancer = await startBalancer();
  cleanUp.defer(() => balancer.stop());
  const old = await start();
  await balancer.add(old);
  const shopId = await createShop(old.grpc, { stock: { ps5: 1_000_000 }, users: { ann: 1_000_000_000 } });
  const callers = startCallers([...openTransports(balancer), ...openTransports(balancer)], shopId);
  const watchers = openTransports(balancer).map((transport) => startWatcher(transport, shopId));
  const health = watchHealth(old);
  await callers.more(50);

  const fresh = await start();
  await balancer.add(fresh);
  old.signal("SIGTERM");
  await until("the old one is not ready", async () => (await readiness(old.httpUrl)) === 503);
  // Who has not noticed yet is served as before, also on a new connection.
  const late = openDoors(old.grpcAddress, old.httpUrl);
  cleanUp.defer(() => late.close());
  for (const { orders } of [late.grpc, late.http]) await orders.listOrders({ shopId, pageSize: 1 });
  expect(await old.ended).toBe(0);
  expect(await health).toEqual([Status.SERVING, Status.NOT_SERVING]);

  await callers.more(50);
  const acknowledged = await callers.stop();
  await auditShop({ ...stores.urls, shopId }, acknowledged);
  expect(balancer.refusedCount).toBe(0);
  const { position } = (await fresh.grpc.admin.getShopStats({ shopId })).asOf ?? { position: 0n };
  for (const { positions, counts, failure, stop } of watchers) {
    await Promise.race([until("all was watched", () => positions.length >= Number(position)), failure]);
    stop();
    expect(await failure).toBeUndefined();
    expect(counts.watches).toBeGreaterThan(1);
    expect(positions).toEqual(Array.from({ length: Number(position) }, (_, index) => BigInt(index + 1)));
  }
});
