import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { create, createFileRegistry, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import {
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { EventService } from "../../gen/holdfast/v1/event_service_pb.js";
import { createReflection } from "../../src/server/reflection.ts";
import { openDoors } from "./open-doors.ts";

const BUF = new URL("../../node_modules/.bin/buf", import.meta.url).pathname;

/** Runs `buf curl` against a gRPC door, with nothing to go by but its reflection. */
async function bufCurl(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(BUF, ["curl", "--protocol", "grpc", "--http2-prior-knowledge", ...args]);
  return stdout.trim();
}

describe.each(["grpc-v1", "grpc-v1alpha"])("buf curl by %s", (version) => {
  test("lists all services", async () => {
    const { grpcUrl } = await openDoors({});

    expect((await bufCurl("--reflect-protocol", version, "--list-services", grpcUrl)).split("\n")).toEqual([
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      "holdfast.v1.EventService",
      "holdfast.v1.InventoryService",
      "holdfast.v1.OrderService",
    ]);
  });

  test("lists the RPCs of files that import well-known types", async () => {
    const { grpcUrl } = await openDoors({});
    const methods = (await bufCurl("--reflect-protocol", version, "--list-methods", grpcUrl)).split("\n");

    expect(methods).toContain("holdfast.v1.InventoryService/HoldStock");
    expect(methods).toContain("grpc.health.v1.Health/Watch");
  });

  test("calls an RPC", async () => {
    const { grpcUrl } = await openDoors({});
    const url = `${grpcUrl}/holdfast.v1.InventoryService/GetStock`;
    const answer = await bufCurl("--reflect-protocol", version, "-d", '{"sku":"ps5"}', url);

    expect(JSON.parse(answer)).toEqual({ stock: { sku: "ps5", soldCount: "3" } });
  });
});

type Question = MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"];

function ask(messageRequest: Question) {
  const { answer } = createReflection([EventService]);
  const request = create(ServerReflectionRequestSchema, { host: "a", messageRequest } as never);
  const response = fromBinary(ServerReflectionResponseSchema, answer(toBinary(ServerReflectionRequestSchema, request)));
  expect(response.originalRequest).toEqual(request);
  return response.messageResponse;
}

function filesOf(response: ReturnType<typeof ask>) {
  if (response.case !== "fileDescriptorResponse") {
    throw new Error(`no files but ${response.case}`);
  }
  return response.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}

test.each([
  ["fileByFilename", "holdfast/v1/event_service.proto"],
  ["fileContainingSymbol", "holdfast.v1.EventService"],
  ["fileContainingSymbol", "holdfast.v1.EventService.WatchEvents"],
  ["fileContainingSymbol", "holdfast.v1.Event"],
  ["fileContainingSymbol", "holdfast.v1.Event.payload"],
  ["fileContainingSymbol", "holdfast.v1.Event.order_placed"],
] as const)("%s %s gives the file first, with its imports", (kind, value) => {
  const files = filesOf(ask({ case: kind, value }));

  expect(files[0]?.name).toBe("holdfast/v1/event_service.proto");
  const names = files.map(({ name }) => name);
  expect(names).toContain("google/protobuf/timestamp.proto");
  expect(names).toContain("google/protobuf/descriptor.proto");
  expect(new Set(names).size).toBe(names.length);
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: files.toReversed() }));
  expect(registry.getService("holdfast.v1.EventService")?.methods).toHaveLength(5);
});

test("an enum value is found beside its enum", () => {
  const [file] = filesOf(ask({ case: "fileContainingSymbol", value: "holdfast.v1.ORDER_STATE_PAID" }));

  expect(file?.name).toBe("holdfast/v1/resources.proto");
});

test.each([
  ["google.rpc.ErrorInfo", "google/rpc/error_details.proto"],
  ["google.rpc.BadRequest", "google/rpc/error_details.proto"],
  ["google.rpc.PreconditionFailure", "google/rpc/error_details.proto"],
  ["google.rpc.RetryInfo", "google/rpc/error_details.proto"],
  ["holdfast.v1.ErrorReason", "holdfast/v1/error_reason.proto"],
])("%s is described, so that tools can show refusals", (value, name) => {
  const [file] = filesOf(ask({ case: "fileContainingSymbol", value }));

  expect(file?.name).toBe(name);
});

test("options survive", () => {
  const [file] = filesOf(ask({ case: "fileContainingSymbol", value: "holdfast.v1.ListEventsRequest" }));
  const field = file?.messageType
    .find(({ name }) => name === "ListEventsRequest")
    ?.field.find(({ name }) => name === "page_size");

  expect(field?.options?.$unknown?.map(({ no }) => no)).toEqual([1159]);
});

test("extensions are found by message and number", () => {
  const containingType = "google.protobuf.FieldOptions";
  const [file] = filesOf(
    ask({ case: "fileContainingExtension", value: { containingType, extensionNumber: 1159 } as never }),
  );

  expect(file?.name).toBe("buf/validate/validate.proto");
  expect(ask({ case: "allExtensionNumbersOfType", value: containingType })).toMatchObject({
    value: { baseTypeName: containingType, extensionNumber: expect.arrayContaining([1159]) },
  });
});

test.each([
  ["fileByFilename", "nothing.proto"],
  ["fileContainingSymbol", "no.Thing"],
  ["allExtensionNumbersOfType", "no.Thing"],
] as const)("%s of something unknown is NOT_FOUND", (kind, value) => {
  expect(ask({ case: kind, value })).toMatchObject({ case: "errorResponse", value: { errorCode: 5 } });
});

test("a request that asks for nothing is INVALID_ARGUMENT", () => {
  expect(ask({ case: undefined, value: undefined } as never)).toMatchObject({ value: { errorCode: 3 } });
});
