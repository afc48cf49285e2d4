import type { Message } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { Registry } from "prom-client";
import { OrderService, type PlaceOrderResponse } from "../../gen/holdfast/v1/order_service_pb.js";
import { type Commit, PaymentMethod } from "../../gen/holdfast/v1/resources_pb.js";
import { Refusal } from "../refusal.ts";
import type { Call } from "../server/call.ts";
import type { CallObserver } from "../server/call-observer.ts";
import type { Endpoint } from "../server/dispatcher.ts";
import { CODE_OF_REASON, codeOf } from "../server/errors.ts";
import { secondsBuckets } from "./buckets.ts";
import { type Count, createCounter, createHistogram, type Distribution } from "./series.ts";

/** Where the calls of one RPC are counted. */
interface CallSeries {
  readonly started: Count;
  /** By gRPC status code. */
  readonly handled: readonly Count[];
  readonly seconds: Distribution;
  /** Undefined for an RPC that changes nothing. */
  readonly mutations: { readonly all: Count; readonly replays: Count } | undefined;
  /** What accepted orders are counted by; undefined for every other RPC. */
  readonly orders: OrderSeries | undefined;
}

interface OrderSeries {
  readonly byMethod: ReadonlyMap<
    PaymentMethod,
    { readonly orders: Count; readonly items: Count; readonly amount: Count }
  >;
  readonly seconds: Distribution;
}

/** gRPC status codes, by number; the names are those that gRPC's own libraries put into `grpc_code`. */
const codeNames = ["OK", ...Array.from({ length: 16 }, (_, index) => Code[index + 1] as string)];

/**
 * Counts the calls of every RPC, as gRPC's own middleware does in other languages, and what came of mutations and orders. All
 * series are there before the first call, so that a rate has no hole where something happens for the first time.
 */
export function createCallMetrics(registry: Registry, endpoints: Iterable<Endpoint>): CallObserver {
  const makeSeries = createSeriesMaker(registry);
  const series = new Map(Array.from(endpoints, (endpoint) => [endpoint, makeSeries(endpoint)]));
  const refusals = createCounter({
    registry,
    name: "holdfast_refusals_total",
    help: "Calls that were refused, by the reason their callers were told.",
  });
  const byReason = new Map(Object.keys(CODE_OF_REASON).map((reason) => [reason, refusals({ reason })]));
  return {
    begun: ({ endpoint }) => {
      (series.get(endpoint) as CallSeries).started.count += 1;
    },
    answered: (call, response) => countAnswer(series.get(call.endpoint) as CallSeries, call, response),
    ended: (call, error) => {
      const { handled, seconds } = series.get(call.endpoint) as CallSeries;
      (handled[error === undefined ? 0 : codeOf(error)] as Count).count += 1;
      seconds.observe(secondsOf(call));
      if (error instanceof Refusal) {
        (byReason.get(error.reason) as Count).count += 1;
      }
    },
  };
}

function countAnswer({ mutations, orders }: CallSeries, call: Call, response: Message): void {
  if (mutations === undefined) {
    return;
  }
  mutations.all.count += 1;
  const { commit } = response as Message & { readonly commit?: Commit };
  if (commit?.replayed === true) {
    mutations.replays.count += 1;
  } else if (orders !== undefined) {
    countOrder(orders, call, response as PlaceOrderResponse);
  }
}

function countOrder({ byMethod, seconds }: OrderSeries, call: Call, { order }: PlaceOrderResponse): void {
  const counts = order === undefined ? undefined : byMethod.get(order.paymentMethod);
  if (order !== undefined && counts !== undefined) {
    counts.orders.count += 1;
    counts.items.count += Number(order.itemCount);
    counts.amount.count += Number(order.amountMinor);
    seconds.observe(secondsOf(call));
  }
}

function secondsOf({ beganAtMs }: Call): number {
  return (performance.now() - beganAtMs) / 1000;
}

function createSeriesMaker(registry: Registry): (endpoint: Endpoint) => CallSeries {
  const counter = (name: string, help: string) => createCounter({ registry, name, help });
  const started = counter("grpc_server_started_total", "Calls that were taken on, on both doors.");
  const handled = counter("grpc_server_handled_total", "Calls that have ended, on both doors, by their status.");
  const seconds = createHistogram({
    registry,
    name: "grpc_server_handling_seconds",
    help: "How long calls took from when they were taken on to their end; for streams as long as they were open.",
    buckets: secondsBuckets,
  });
  const mutations = counter("holdfast_mutations_total", "Mutations that were accepted, replays among them.");
  const replays = counter(
    "holdfast_replays_total",
    "Mutations that were answered with what an earlier call had done: the same request id, or a state already reached.",
  );
  const makeOrders = createOrderSeriesMaker(registry);
  return ({ method, mutation }) => {
    const grpc_type = method.methodKind === "unary" ? "unary" : "server_stream";
    const labels = { grpc_type, grpc_service: method.parent.typeName, grpc_method: method.name };
    const only = { grpc_method: method.name };
    return {
      started: started(labels),
      handled: codeNames.map((grpc_code) => handled({ ...labels, grpc_code })),
      seconds: seconds(labels),
      mutations: mutation ? { all: mutations(only), replays: replays(only) } : undefined,
      orders: method === OrderService.method.placeOrder ? makeOrders() : undefined,
    };
  };
}

function createOrderSeriesMaker(registry: Registry): () => OrderSeries {
  const counter = (name: string, help: string) => createCounter({ registry, name, help });
  const orders = counter("holdfast_orders_total", "Orders that were placed; replays are not counted.");
  const items = counter("holdfast_order_items_total", "Units in these orders.");
  const amount = counter(
    "holdfast_order_amount_minor_total",
    "What these orders come to, in minor units; shops with different currencies are added up all the same.",
  );
  const seconds = createHistogram({
    registry,
    name: "holdfast_order_seconds",
    help: "How long the calls took that placed these orders, until each was durable.",
    buckets: secondsBuckets,
  });
  return () => {
    const methods = [PaymentMethod.WALLET, PaymentMethod.EXTERNAL, PaymentMethod.NONE, PaymentMethod.GATEWAY];
    const byMethod = methods.map((method) => {
      const labels = { payment_method: PaymentMethod[method] as string };
      return [method, { orders: orders(labels), items: items(labels), amount: amount(labels) }] as const;
    });
    return { byMethod: new Map(byMethod), seconds: seconds() };
  };
}
