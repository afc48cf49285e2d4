import { spawnSync } from "node:child_process";
import { rm } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runProgram } from "../helpers/example.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

/** Debian's Python: its gRPC comes with the packages that the tests' set-up installs. */
const python = "/usr/bin/python3";
const runs = (command: string, ...args: string[]): boolean => spawnSync(command, args).status === 0;
const hasCurl = runs("curl", "--version") && runs("bash", "--version");
const hasPython =
  runs("protoc", "--version") && runs("sh", "-c", "command -v grpc_python_plugin") && runs(python, "-c", "import grpc");

const holdfast = useHoldfast();

describe.skipIf(!hasCurl)("examples/curl.sh", () => {
  const sell = (url: string) => runProgram("examples/curl.sh", [], { HOLDFAST_HTTP: url });

  it("sells, repeats and is refused as it expects, as often as it is run", async () => {
    for (let run = 1; run <= 2; run += 1) {
      const { code, output } = await sell(holdfast.httpUrl);
      expect(output).toContain('"replayed":true');
      expect(output).toContain('"reason":"SOLD_OUT"');
      expect(output).toContain("all as expected");
      expect(code).toBe(0);
    }
  });

  it("fails when an answer is another, and when there is none", async () => {
    const { server } = holdfast;
    expect((await sell(`http://127.0.0.1:${server.httpPort}/no`)).code).not.toBe(0);
    expect((await sell("http://127.0.0.1:1")).code).not.toBe(0);
  });
});

describe.skipIf(!hasPython)("examples/python", () => {
  let stubs: string;

  beforeAll(async () => {
    stubs = await createTemporaryFolder();
    const made = await runProgram("examples/python/make-stubs.sh", [stubs]);
    expect(made).toMatchObject({ code: 0 });
  });

  afterAll(async () => {
    await rm(stubs, { recursive: true, force: true });
  });

  it("buys, watches, resumes and reads error details", async () => {
    const args = ["examples/python/buy_and_watch.py", "--target", holdfast.grpcAddress, "--stubs", stubs];
    const { code, output } = await runProgram(python, args);
    expect(output.split("\n")).toEqual([
      "bought 2 for 99800, 100200 left, at position 6",
      "sent again: replayed, 100200 left",
      "refused: SOLD_OUT, 1 available",
      "refused: HELD_OUT, 1 held; try again within a minute",
      "refused: VALIDATION_FAILED, 1 field",
      "watched 4 commits, stopped at position 4",
      "resumed: funds_deposited, order_placed, stock_held",
      "refused: HISTORY_CHANGED",
      "all as expected",
      "",
    ]);
    expect(code).toBe(0);
  });

  it("fails when nobody answers", async () => {
    const args = ["examples/python/buy_and_watch.py", "--target", "127.0.0.1:1", "--stubs", stubs];
    expect((await runProgram(python, args)).code).toBe(1);
  });
});
