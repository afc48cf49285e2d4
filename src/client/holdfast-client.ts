import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService, type WatchEventsRequestSchema } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import { UserService } from "../../gen/holdfast/v1/user_service_pb.js";
import { createPatience, type RepeatOptions } from "./repeat.ts";
import { createRepeatingTransport } from "./repeating-transport.ts";
import { type Watched, type WatchOptions, watchCommits } from "./watch.ts";

/** What a client needs. */
export interface HoldfastClientOptions extends RepeatOptions {
  /** To either door: one of connect-node's, or createGrpcTransport's. */
  readonly transport: Transport;
}

/**
 * The generated clients of all services. Every mutation has a request id, undecided calls are repeated with it, and a
 * refused call throws RefusedError.
 */
export interface HoldfastClient {
  readonly admin: Client<typeof AdminService>;
  readonly events: Client<typeof EventService>;
  readonly inventory: Client<typeof InventoryService>;
  readonly orders: Client<typeof OrderService>;
  readonly subscriptions: Client<typeof SubscriptionService>;
  readonly users: Client<typeof UserService>;
  /** Watches commits over drops and restarts: see watchCommits. `events.watchEvents` is the bare stream. */
  watch(
    request?: MessageInitShape<typeof WatchEventsRequestSchema>,
    options?: WatchOptions,
  ): AsyncGenerator<Watched, never>;
}

/** Makes a client; nothing connects before the first call. */
export function createHoldfastClient({ transport, ...options }: HoldfastClientOptions): HoldfastClient {
  const repeating = createRepeatingTransport(transport, options);
  const patience = createPatience(options);
  const events = createClient(EventService, repeating);
  return {
    admin: createClient(AdminService, repeating),
    events,
    inventory: createClient(InventoryService, repeating),
    orders: createClient(OrderService, repeating),
    subscriptions: createClient(SubscriptionService, repeating),
    users: createClient(UserService, repeating),
    watch: (request = {}, watchOptions = {}) => watchCommits(events, request, watchOptions, patience),
  };
}
