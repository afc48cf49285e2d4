import { describe, expect, test } from "vitest";
import { readTraceParent, traceIdOf } from "../../src/server/trace-parent.ts";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const fields = `${traceId}-b7ad6b7169203331`;

describe("a traceparent", () => {
  test.each([
    ["of version 00", `00-${fields}-01`, `00-${fields}-01`],
    ["of version 00 that is not sampled", `00-${fields}-00`, `00-${fields}-00`],
    ["of version 00 with flags that came later", `00-${fields}-03`, `00-${fields}-03`],
    ["of a later version", `01-${fields}-01`, `00-${fields}-01`],
    ["of a later version that is not sampled", `cc-${fields}-00`, `00-${fields}-00`],
    ["of a later version with flags of its own", `01-${fields}-fb`, `00-${fields}-01`],
    ["of a later version with flags of its own that is not sampled", `01-${fields}-fa`, `00-${fields}-00`],
    ["of a later version with more behind it", `cc-${fields}-01-what-the-future-will-be-like`, `00-${fields}-01`],
    ["of a later version with nothing behind another -", `cc-${fields}-01-`, `00-${fields}-01`],
  ])("%s is one of version 00", (_which, header, read) => {
    expect(readTraceParent(header)).toBe(read);
    expect(traceIdOf(read)).toBe(traceId);
  });

  test.each([
    ["that is not there", undefined],
    ["that is empty", ""],
    ["of version ff", `ff-${fields}-01`],
    ["of version 00 with more behind it", `00-${fields}-01-more`],
    ["of version 00 with nothing behind another -", `00-${fields}-01-`],
    ["of a later version with more behind it, not apart", `cc-${fields}-01.more`],
    ["of a later version with longer flags", `cc-${fields}-011`],
    ["without flags", `01-${fields}`],
    ["whose version is none", `0x-${fields}-01`],
    ["in capitals", `00-${fields}-01`.toUpperCase()],
    ["of a trace of zeros", `01-${"0".repeat(32)}-b7ad6b7169203331-01`],
    ["of a span of zeros", `01-${traceId}-${"0".repeat(16)}-01`],
    ["with something before it", ` 00-${fields}-01`],
  ])("%s is dropped", (_which, header) => {
    expect(readTraceParent(header)).toBe("");
  });
});
