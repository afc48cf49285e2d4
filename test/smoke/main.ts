import { parseArgs } from "node:util";
import { createConnectTransport } from "@connectrpc/connect-node";
import { loadConfig } from "../../src/config.ts";
import { checkToken, openTarget, parseTarget, type TargetOptions } from "../../src/target.ts";
import { smoke } from "./smoke.ts";

const usage = `usage: npm run test:smoke -- --target host:port [--http host:port] [--tls] [--shop smoke]

Sells one unit through a server that runs, takes it back and watches both; exit code 0 when all is well. With HOLDFAST_TOKEN set
it says who it is: it needs holdfast.read and holdfast.write in the shop, and holdfast.admin to create it.
`;

/** The longest that a call may take, and all of it, in milliseconds. */
const callMs = 5000;
const wholeMs = 45_000;

function say(text: string): void {
  process.stderr.write(`smoke: ${text}\n`);
}

function readArguments() {
  const options = {
    target: { type: "string" },
    http: { type: "string" },
    tls: { type: "boolean", default: false },
    shop: { type: "string", default: "smoke" },
  } as const;
  const { target, http, tls, shop } = parseArgs({ options }).values;
  if (target === undefined) throw new Error("--target is missing");
  const { token } = loadConfig({ HOLDFAST_TOKEN: process.env.HOLDFAST_TOKEN });
  const addresses = [target, ...(http === undefined ? [] : [http])].map(parseTarget);
  for (const address of addresses) checkToken(address, { tls, token });
  return { addresses, shopId: shop, access: { tls, token } };
}

function openHttp(address: string, { tls, token }: TargetOptions) {
  const url = `${tls ? "https" : "http"}://${address}`;
  const transport = createConnectTransport({
    baseUrl: url,
    httpVersion: "1.1",
    useBinaryFormat: false,
    interceptors: [
      (next) => (req) => {
        if (token !== undefined) req.header.set("authorization", `Bearer ${token}`);
        return next(req);
      },
    ],
  });
  return { url, transport };
}

async function main(): Promise<number> {
  if (process.argv.includes("--help")) {
    process.stdout.write(usage);
    return 0;
  }
  try {
    const { addresses, shopId, access } = readArguments();
    const [target = "", http] = addresses;
    setTimeout(() => {
      say(`not over after ${wholeMs / 1000} s`);
      process.exit(1);
    }, wholeMs);
    await smoke({
      grpc: openTarget(target, access),
      http: http === undefined ? undefined : openHttp(http, access),
      shopId,
      timeoutMs: callMs,
      onStep: (name, durationMs) => say(`ok    ${String(Math.round(durationMs)).padStart(5)} ms   ${name}`),
    });
    say(`${addresses.join(" and ")}: well`);
    return 0;
  } catch (error) {
    say(`FAIL  ${(error as Error).message}`);
    if (String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS")) process.stderr.write(`\n${usage}`);
    return 1;
  }
}

// Connections may be open still.
process.exit(await main());
