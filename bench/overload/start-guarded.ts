import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignJWT } from "jose";
import { startChild } from "../child.ts";
import { openClients, type Testbed } from "../growth/testbed.ts";
import type { HoldfastPorts, HoldfastRequest } from "../holdfast-server.ts";

/** A server with all guards that there are: it asks who calls, keeps rates, and logs. */
export interface Guarded {
  /** The testbed with this server in front of its stores. */
  readonly bed: Testbed;
  /** The header `authorization` of somebody who may do everything. */
  readonly authorization: string;
  /** What it logs. */
  readonly logFile: string;
  /** Reads its metrics, as Prometheus does. */
  readMetrics(): Promise<string>;
}

const issuer = "https://issuer.example";
const audience = "holdfast";
const principal = "buyer";
/** The highest there is, and more than a server does: what it costs to count is measured, not to refuse. */
const callsPerSecond = "1000000";

/** Starts it beside the server of a testbed. */
export async function startGuarded(testbed: Testbed, cleanUp: AsyncDisposableStack): Promise<Guarded> {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-guarded-"));
  cleanUp.defer(() => rm(folder, { recursive: true, force: true }));
  const logFile = join(folder, "log");
  const secret = randomBytes(32).toString("hex");
  const server = startChild("./holdfast-server.ts", cleanUp);
  const { redisUrl, databaseUrl } = testbed;
  const { grpcPort: port, httpPort } = await server.ask<HoldfastPorts>({
    redisUrl,
    databaseUrl,
    logLevel: "info",
    logFile,
    settings: {
      HOLDFAST_JWT_SECRET: secret,
      HOLDFAST_JWT_ISSUER: issuer,
      HOLDFAST_JWT_AUDIENCE: audience,
      HOLDFAST_PRINCIPAL_CALLS_PER_SECOND: callsPerSecond,
      HOLDFAST_SHOP_CALLS_PER_SECOND: callsPerSecond,
    },
  } satisfies HoldfastRequest);
  const authorization = `Bearer ${await signToken(secret)}`;
  const clients = openClients(port, cleanUp, { authorization });
  return {
    bed: { ...testbed, port, clients, pids: { ...testbed.pids, server: server.pid } },
    authorization,
    logFile,
    readMetrics: () => readPage(`http://127.0.0.1:${httpPort}/metrics`),
  };
}

function signToken(secret: string): Promise<string> {
  return new SignJWT({ scope: "holdfast.read holdfast.write holdfast.admin", shops: "*" })
    .setProtectedHeader({ alg: "HS256" })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject(principal)
    .setExpirationTime("1h")
    .sign(Buffer.from(secret));
}

async function readPage(url: string): Promise<string> {
  const response = await fetch(url);
  if (!response.ok) {
    throw new Error(`${url} answers ${response.status}`);
  }
  return response.text();
}
