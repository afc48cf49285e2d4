import { setTimeout as sleep } from "node:timers/promises";
import type { Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { AdjustReason, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { createHoldfastClient, type HoldfastClient } from "../../src/client/index.ts";
import { abusedShop } from "./random-request.ts";
import { createPace, type Target } from "./target.ts";

/** Somebody who buys on both doors while they are attacked. */
export interface GoodCaller {
  /** Calls until the returned function is called, which resolves with how long each call took and what failed. */
  call(perSecond: number): () => Promise<Calls>;
  /** How many commits there are to watch in the shop that is abused. */
  fill(commitCount: number): Promise<void>;
}

/** What came of calls. */
export interface Calls {
  /** From when the call was due, in milliseconds. */
  readonly latenciesMs: readonly number[];
  readonly failures: readonly string[];
}

const shopId = "good";
const sku = "ps5";
/** What is late is measured, not given up. */
const patience = { timeoutMs: 30_000 };

/** Opens both shops, with stock for longer than any run. */
export async function openGoodCaller(target: Target): Promise<GoodCaller> {
  // As a good caller should: what is undecided, because a connection was closed just then, is repeated with its id.
  const clients = openTransports(target).map((transport) => createHoldfastClient({ transport }));
  const [{ admin, inventory }] = clients as [HoldfastClient, HoldfastClient];
  for (const each of [shopId, abusedShop]) {
    await admin.createShop({ shopId: each, currencyCode: "USD" });
    await inventory.putProduct({ shopId: each, sku, title: "Console", priceMinor: 100n });
    await inventory.adjustStock({ shopId: each, sku, deltaCount: 1_000_000n, reason: AdjustReason.INITIAL });
  }
  return {
    call: (perSecond) => keepCalling(perSecond, clients),
    fill: async (commitCount) => {
      for (let made = 0; made < commitCount; made += 100) {
        await Promise.all(Array.from({ length: 100 }, () => buy(clients[0] as HoldfastClient, abusedShop)));
      }
    },
  };
}

function openTransports({ grpcPort, httpPort, ca }: Target): readonly [Transport, Transport] {
  const scheme = ca === undefined ? "http" : "https";
  const nodeOptions = ca === undefined ? {} : { ca };
  return [
    createGrpcTransport({ baseUrl: `${scheme}://127.0.0.1:${grpcPort}`, nodeOptions }),
    createConnectTransport({ baseUrl: `${scheme}://127.0.0.1:${httpPort}`, httpVersion: "1.1", nodeOptions }),
  ];
}

function buy({ orders }: HoldfastClient, shop: string) {
  const lines = [{ sku, quantity: 1 }];
  return orders.placeOrder({ shopId: shop, lines, paymentMethod: PaymentMethod.NONE }, patience);
}

function keepCalling(perSecond: number, clients: readonly HoldfastClient[]): () => Promise<Calls> {
  const latenciesMs: number[] = [];
  const failures: string[] = [];
  const pending = new Set<Promise<void>>();
  const pace = createPace(perSecond);
  let isOver = false;

  async function callOnce(index: number): Promise<void> {
    const dueMs = performance.now();
    const client = clients[index % 2] as HoldfastClient;
    try {
      await (index % 4 < 2 ? buy(client, shopId) : client.inventory.getStock({ shopId, sku }, patience));
      latenciesMs.push(performance.now() - dueMs);
    } catch (error) {
      failures.push(String(error));
    }
  }

  const calling = (async () => {
    for (let index = 0; !isOver; index += 1) {
      await pace.next();
      const call = callOnce(index).finally(() => pending.delete(call));
      pending.add(call);
    }
  })();
  return async () => {
    isOver = true;
    await calling;
    while (pending.size > 0) await Promise.all([...pending, sleep(1)]);
    return { latenciesMs, failures };
  };
}
