import type { Event } from "../../gen/holdfast/v1/event_service_pb.js";
import { type SaleClients, sku } from "./flash-sale.ts";
import { untilAnswered } from "./until-answered.ts";

/** What the API of a Holdfast says about a sale, for when its stores are not ours to read. */
export interface ApiRecords {
  readonly stock: { readonly availableCount: number; readonly heldCount: number; readonly soldCount: number };
  readonly log: {
    readonly commitCount: number;
    readonly orderIds: readonly string[];
    readonly orderedUnits: number;
    readonly depositedMinor: number;
    /** Sum of the newest balance that the log gives of each user. */
    readonly walletsMinor: number;
  };
  readonly shop: { readonly userCount: number; readonly headPosition: number; readonly durablePosition: number };
}

/** Whom to ask about which shop. */
export interface ApiOptions {
  readonly clients: SaleClients;
  readonly shopId: string;
  readonly signal: AbortSignal;
}

const timeoutMs = 10_000;

/** Asks GetStock and GetShop, and reads the whole log with ListEvents. */
export async function readApi(options: ApiOptions): Promise<ApiRecords> {
  const { clients, shopId, signal } = options;
  const callOptions = { timeoutMs };
  const { stock } = await untilAnswered(() => clients.inventory.getStock({ shopId, sku }, callOptions), signal);
  const { shop } = await untilAnswered(() => clients.admin.getShop({ shopId }, callOptions), signal);
  return {
    stock: {
      availableCount: Number(stock?.availableCount),
      heldCount: Number(stock?.heldCount),
      soldCount: Number(stock?.soldCount),
    },
    log: summariseLog(await readLog(options)),
    shop: {
      userCount: Number(shop?.userCount),
      headPosition: Number(shop?.headPosition),
      durablePosition: Number(shop?.durablePosition),
    },
  };
}

async function readLog({ clients, shopId, signal }: ApiOptions): Promise<Event[]> {
  const events: Event[] = [];
  for (let afterPosition = 0n; ; ) {
    const request = { shopId, afterPosition, pageSize: 1000 };
    const page = await untilAnswered(() => clients.events.listEvents(request, { timeoutMs }), signal);
    events.push(...page.events);
    if (page.nextAfterPosition === afterPosition) {
      return events;
    }
    afterPosition = page.nextAfterPosition;
  }
}

function summariseLog(events: readonly Event[]): ApiRecords["log"] {
  const balances = new Map<string, number>();
  const orderIds: string[] = [];
  let orderedUnits = 0;
  let depositedMinor = 0;
  for (const { payload } of events) {
    if (payload.case === "orderPlaced") {
      orderIds.push(payload.value.order?.orderId ?? "");
      orderedUnits += Number(payload.value.order?.itemCount);
      if (payload.value.balanceMinor !== undefined) {
        balances.set(payload.value.order?.userId ?? "", Number(payload.value.balanceMinor));
      }
    } else if (payload.case === "fundsDeposited") {
      depositedMinor += Number(payload.value.amountMinor);
      balances.set(payload.value.user?.userId ?? "", Number(payload.value.user?.balanceMinor));
    }
  }
  const walletsMinor = [...balances.values()].reduce((sum, balance) => sum + balance, 0);
  return {
    commitCount: new Set(events.map(({ position }) => position)).size,
    orderIds,
    orderedUnits,
    depositedMinor,
    walletsMinor,
  };
}
