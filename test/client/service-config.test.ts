import { readFileSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { AdminService } from "../../gen/holdfast/v1/admin_service_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { InventoryService } from "../../gen/holdfast/v1/inventory_service_pb.js";
import { OrderService } from "../../gen/holdfast/v1/order_service_pb.js";
import { SubscriptionService } from "../../gen/holdfast/v1/subscription_service_pb.js";
import {
  DepositFundsRequestSchema,
  type DepositFundsResponse,
  DepositFundsResponseSchema,
  UserService,
} from "../../gen/holdfast/v1/user_service_pb.js";
import { startHoldfast } from "../helpers/holdfast.ts";
import { startProxy, type TcpProxy } from "../helpers/proxy.ts";
import { createShop } from "../helpers/shop.ts";
import { until } from "../helpers/until.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const text = readFileSync(new URL("../../examples/service-config.json", import.meta.url), "utf8");

interface MethodConfig {
  readonly name: readonly { readonly service: string; readonly method?: string }[];
  readonly retryPolicy?: { readonly retryableStatusCodes: readonly string[] };
}

describe("service-config.json", () => {
  const services = [AdminService, EventService, InventoryService, OrderService, SubscriptionService, UserService];
  const { methodConfig }: { methodConfig: readonly MethodConfig[] } = JSON.parse(text);
  const [retried, streams] = methodConfig;

  it("retries unary calls of every service of the contract", () => {
    expect(retried?.name).toEqual(services.map(({ typeName }) => ({ service: typeName })));
    expect(retried?.retryPolicy?.retryableStatusCodes).toEqual(["UNAVAILABLE", "RESOURCE_EXHAUSTED"]);
  });

  it("gives no stream a deadline or a retry", () => {
    const all = services.flatMap(({ typeName, methods }) =>
      methods
        .filter(({ methodKind }) => methodKind !== "unary")
        .map(({ name }) => ({ service: typeName, method: name })),
    );
    const key = ({ service, method }: { service: string; method?: string }): string => `${service}/${method}`;
    expect(streams?.name.map(key).sort()).toEqual(all.map(key).sort());
    expect(Object.keys(streams ?? {})).toEqual(["name"]);
  });
});

describe("a grpc-js client with service-config.json", () => {
  const holdfast = useHoldfast();
  let proxy: TcpProxy;
  let client: Client;
  let shopId: string;

  beforeEach(async () => {
    shopId = await createShop(holdfast.grpc, { users: { ann: 0 } });
    proxy = await startProxy(`http://${holdfast.grpcAddress}`);
    client = await openClient(new URL(proxy.url).host);
  });
  afterEach(async () => {
    client.close();
    await proxy.stop();
  });

  const balanceOf = async () => (await holdfast.grpc.users.getUser({ shopId, userId: "ann" })).user?.balanceMinor;

  async function openClient(target: string): Promise<Client> {
    const opened = new Client(target, credentials.createInsecure(), { "grpc.service_config": text });
    await new Promise<void>((resolve, reject) => {
      opened.waitForReady(Date.now() + 10_000, (error) => (error === undefined ? resolve() : reject(error)));
    });
    return opened;
  }

  function deposit(requestId: string): Promise<DepositFundsResponse> {
    const request = { shopId, requestId, userId: "ann", amountMinor: 5n, reference: "transfer 17" };
    return new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        "/holdfast.v1.UserService/DepositFunds",
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes) => fromBinary(DepositFundsResponseSchema, bytes),
        toBinary(DepositFundsRequestSchema, create(DepositFundsRequestSchema, request)),
        new Metadata(),
        {},
        (error, response) => (error === null ? resolve(response as DepositFundsResponse) : reject(error)),
      );
    });
  }

  /** Deposits, and loses the answer of the first attempt. */
  async function depositAndLose(requestId: string): Promise<DepositFundsResponse> {
    proxy.loseAnswers();
    const answer = deposit(requestId);
    answer.catch(() => {}); // looked at below
    await until("the deposit is made", async () => (await balanceOf()) === 5n);
    proxy.cut();
    return answer;
  }

  async function expectIdRequired(call: Promise<unknown>): Promise<void> {
    const error: ServiceError = await call.then(
      () => expect.fail("the retry was not refused"),
      (reason) => reason,
    );
    expect(error.code).toBe(status.INVALID_ARGUMENT);
    const [bytes] = error.metadata.get("grpc-status-details-bin");
    const [detail] = fromBinary(StatusSchema, bytes as Buffer).details;
    expect(fromBinary(ErrorInfoSchema, detail?.value ?? new Uint8Array()).reason).toBe("REQUEST_ID_REQUIRED");
  }

  it("gets a lost answer by its retry when the call has an id", async () => {
    const { user, commit } = await depositAndLose("transfer-17");
    expect(user?.balanceMinor).toBe(5n);
    expect(commit).toMatchObject({ requestId: "transfer-17", replayed: true });
    expect(await balanceOf()).toBe(5n);
  });

  it("is refused the retry of a lost answer when the call has no id, and the deposit stays made once", async () => {
    await expectIdRequired(depositAndLose(""));
    expect(await balanceOf()).toBe(5n);
  });

  it("is refused the retry after UNAVAILABLE as well when the call has no id, and nothing is done", async () => {
    const postgres = await startProxy(holdfast.urls.databaseUrl);
    const other = await startHoldfast({ ...holdfast.urls, databaseUrl: postgres.url });
    const otherClient = client;
    client = await openClient(other.grpcAddress);
    try {
      postgres.refuse();
      await until("PostgreSQL counts as away", () => other.server.store.shops.awayStore() !== undefined);
      await expectIdRequired(deposit(""));
      expect(await balanceOf()).toBe(0n);
    } finally {
      otherClient.close();
      await other.stop();
      await postgres.stop();
    }
  });
});
