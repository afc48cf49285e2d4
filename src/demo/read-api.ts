import type { Event } from "../../gen/holdfast/v1/event_service_pb.js";
import type { HoldfastClient } from "../client/index.ts";
import { sku } from "./flash-sale.ts";

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
  readonly client: HoldfastClient;
  readonly shopId: string;
}

/** Asks GetStock and GetShop, and reads the whole log with ListEvents. */
export async function readApi(options: ApiOptions): Promise<ApiRecords> {
  const { client, shopId } = options;
  const { stock } = await client.inventory.getStock({ shopId, sku });
  const { shop } = await client.admin.getShop({ shopId });
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

async function readLog({ client, shopId }: ApiOptions): Promise<Event[]> {
  const events: Event[] = [];
  for (let afterPosition = 0n; ; ) {
    const page = await client.events.listEvents({ shopId, afterPosition, pageSize: 1000 });
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
