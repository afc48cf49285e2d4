import { expect, test } from "vitest";
import { completeAddress, mergeClaims, parseClusterNodes } from "../../src/shop/cluster-slots.ts";

const text = [
  "a1 127.0.0.1:7001@17001,host-a myself,master - 0 0 7 connected 0-100 200 [93->-b2]",
  "b2 10.0.0.2:7002@17002 master,fail - 0 0 5 disconnected 101-199",
  "c3 10.0.0.3:7003@17003 slave a1 0 0 7 connected",
  "d4 :7004@17004 master - 0 0 9 connected 300-16383",
  "e5 :0@0 master,noaddr - 0 0 3 disconnected 201-299",
  "f6 10.0.0.6:7006@17006 master - 0 0 0 connected",
  "",
].join("\n");

test("reads who serves what, and where everybody is", () => {
  expect(parseClusterNodes(text, "10.0.0.4")).toEqual({
    claims: [
      {
        address: "127.0.0.1:7001",
        configEpoch: 7,
        ranges: [
          [0, 100],
          [200, 200],
        ],
      },
      { address: "10.0.0.2:7002", configEpoch: 5, ranges: [[101, 199]] },
      { address: "10.0.0.4:7004", configEpoch: 9, ranges: [[300, 16_383]] },
    ],
    addresses: ["127.0.0.1:7001", "10.0.0.2:7002", "10.0.0.3:7003", "10.0.0.4:7004", "10.0.0.6:7006"],
  });
});

test("believes the higher config epoch, whoever was asked first", () => {
  const old = { claims: [{ address: "a:1", configEpoch: 1, ranges: [[0, 16_383] as const] }], addresses: [] };
  const young = { claims: [{ address: "b:2", configEpoch: 2, ranges: [[5, 6] as const] }], addresses: [] };
  for (const views of [
    [old, young],
    [young, old],
  ]) {
    const slots = mergeClaims(views);
    expect([slots[4], slots[5], slots[6], slots[7]]).toEqual(["a:1", "b:2", "b:2", "a:1"]);
  }
  expect(mergeClaims([young])[7], "nobody serves it").toBeUndefined();
});

test("takes a port alone for one of the host that said so", () => {
  expect(completeAddress(":7000", "10.0.0.1")).toBe("10.0.0.1:7000");
  expect(completeAddress("10.0.0.2:7000", "10.0.0.1")).toBe("10.0.0.2:7000");
  expect(completeAddress("::1:7000", "10.0.0.1")).toBe("::1:7000");
});
