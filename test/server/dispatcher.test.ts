import { create, type Message } from "@bufbuild/protobuf";
import { pino } from "pino";
import { expect, test } from "vitest";
import {
  AdminService,
  CreateShopRequestSchema,
  CreateShopResponseSchema,
} from "../../gen/holdfast/v1/admin_service_pb.js";
import { loadConfig } from "../../src/config.ts";
import { Call } from "../../src/server/call.ts";
import type { Handlers } from "../../src/server/call-context.ts";
import { bindService, createDispatcher, type Endpoint } from "../../src/server/dispatcher.ts";

/** A call that keeps what it was answered. */
class KeptCall extends Call {
  readonly answers: unknown[] = [];

  header(): undefined {
    return undefined;
  }

  protected sendResponse(response: Message): void {
    this.answers.push(response);
  }

  protected sendFailure(error: unknown): void {
    this.answers.push(error);
  }
}

/** A dispatcher of one RPC that counts how often its handler was reached. */
function countingDispatcher() {
  const reached = { count: 0 };
  const createShop = async () => {
    reached.count += 1;
    return create(CreateShopResponseSchema);
  };
  const handlers = new Proxy({ createShop }, { get: () => createShop });
  const dispatcher = createDispatcher({
    services: [bindService(AdminService, handlers as unknown as Handlers<typeof AdminService>)],
    interceptors: [],
    limits: loadConfig({}).doorLimits,
    logger: pino({ level: "silent" }),
  });
  const endpoint = dispatcher.endpoints.get("/holdfast.v1.AdminService/CreateShop") as Endpoint;
  return { reached, dispatcher, call: new KeptCall(endpoint, dispatcher.draining) };
}

const read = () => create(CreateShopRequestSchema);

test("a call whose deadline has passed while nobody looked never reaches its handler", () => {
  const { reached, dispatcher, call } = countingDispatcher();
  dispatcher.begin(call, 1);
  // The event loop does not turn here, so no timer has ended the call.
  while (Date.now() < call.deadlineMs);
  dispatcher.answer(call, read);
  expect(call.answers).toEqual([expect.objectContaining({ message: expect.stringContaining("deadline exceeded") })]);
  expect(reached.count).toBe(0);
});

test("a call whose caller has left never reaches its handler", () => {
  const { reached, dispatcher, call } = countingDispatcher();
  dispatcher.begin(call, 10_000);
  call.cancel();
  dispatcher.answer(call, read);
  expect(call.answers).toHaveLength(1);
  expect(reached.count).toBe(0);
});

test("a call that is wanted reaches its handler and is answered once", async () => {
  const { reached, dispatcher, call } = countingDispatcher();
  dispatcher.begin(call, 10_000);
  dispatcher.answer(call, read);
  await expect.poll(() => call.answers).toEqual([create(CreateShopResponseSchema)]);
  expect(reached.count).toBe(1);
});
