import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { StartError } from "../start-error.ts";
import type { SupervisedServer } from "./supervise.ts";

const maxPortAttemptCount = 5;
const pollMs = 15;
const readyMs = 120_000;
const slowMs = 3_000;
const earlierEndsMs = 10_000;

/** How to bring one server up on a port of this machine. */
export interface StartOptions {
  /** `PostgreSQL`, for the messages. */
  readonly title: string;
  readonly logFile: string;
  readonly launch: (port: number) => Promise<SupervisedServer>;
  /** Asked every 15 ms while the server runs. */
  readonly isReady: (server: SupervisedServer, port: number) => Promise<boolean>;
  readonly onProgress: (message: string) => void;
  /** Default: a port the system says is free. */
  readonly choosePort?: () => Promise<number>;
}

/**
 * Starts a server on a free port and waits until it is ready. Between choosing a port and listening on it somebody else
 * can take it, so another one is tried then. A server that ends instead of getting ready is an error with its last lines.
 */
export async function startOnFreePort(options: StartOptions): Promise<{ server: SupervisedServer; port: number }> {
  const choosePort = options.choosePort ?? chooseFreePort;
  const waitsForEarlierUntil = Date.now() + earlierEndsMs;
  for (let attempt = 1; ; ) {
    const port = await choosePort();
    const server = await options.launch(port);
    const failure = await waitUntilReady(server, port, options);
    if (failure === undefined) return { server, port };
    await server.stop();
    const logTail = await server.readLogTail();
    if (/pre-existing shared memory block/.test(logTail) && Date.now() < waitsForEarlierUntil) {
      // Sessions of an earlier PostgreSQL that was killed are still on their way out.
      await sleep(250);
    } else if (!/address already in use/i.test(logTail) || attempt++ === maxPortAttemptCount) {
      throw new StartError(describeFailure(options, failure, logTail));
    }
  }
}

async function chooseFreePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}

/** Undefined when the server got ready, otherwise why it did not. */
async function waitUntilReady(
  server: SupervisedServer,
  port: number,
  options: StartOptions,
): Promise<string | undefined> {
  let failure: string | undefined;
  void server.ended.then((how) => {
    failure = how;
  });
  const startedAt = Date.now();
  let isAnnounced = false;
  while (failure === undefined) {
    if (await options.isReady(server, port)) return undefined;
    const waitedMs = Date.now() - startedAt;
    if (waitedMs > readyMs) return `not ready after ${readyMs / 1000} s`;
    if (waitedMs > slowMs && !isAnnounced) {
      isAnnounced = true;
      options.onProgress(`${options.title} is still loading what the last run left`);
    }
    await Promise.race([server.ended, sleep(pollMs)]);
  }
  return failure;
}

function describeFailure({ title, logFile }: StartOptions, failure: string, logTail: string): string {
  const lines = logTail.trimEnd().split("\n").slice(-12);
  return `${title} did not start (${failure}). The last lines of ${logFile}:\n  ${lines.join("\n  ")}`;
}
