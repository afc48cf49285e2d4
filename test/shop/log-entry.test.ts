import { expect, test } from "vitest";
import { type Call, type LogEntry, traceParentOf } from "../../src/shop/log-entry.ts";

const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const imitation = `"trace_parent":"${traceParent}"}`;
const plain: Call = { rpc: "PlaceOrder", request_id: "cart-17", principal: "front", request: { user_id: "ann" } };

function entry(call: string): LogEntry {
  return { position: 1, commitId: "c1", epoch: 1, timeMs: 0, call, events: "[]", private: "" };
}

test("a call's trace is found where it has one", () => {
  expect(traceParentOf(entry(JSON.stringify({ ...plain, trace_parent: traceParent })))).toBe(traceParent);
  expect(traceParentOf(entry(JSON.stringify({ ...plain, request: {}, trace_parent: traceParent })))).toBe(traceParent);
});

test.each<[string, Call]>([
  ["nothing like it", plain],
  ["one in its request", { ...plain, request: { trace_parent: traceParent } }],
  ["one in a list of its request", { ...plain, request: { lines: [{ trace_parent: traceParent }] } }],
  ["its text in a value", { ...plain, request: { title: imitation } }],
  ["its text in a principal, at the end", { rpc: "X", request_id: "", request: {}, principal: imitation.slice(0, -2) }],
])("no trace is made up of %s", (_what, call) => {
  expect(traceParentOf(entry(JSON.stringify(call)))).toBe("");
});

test("an expiry, which nobody called, has none", () => {
  expect(traceParentOf(entry('{"rpc":"ExpireHolds","request_id":"","request":{},"principal":""}'))).toBe("");
});
