import type { IncomingMessage, ServerResponse } from "node:http";

/** True: ready. False or a text: not ready, and why. */
export type Readiness = boolean | string;

// A probe that hangs is worse than one that says no.
const MAX_WAIT_MS = 2000;

/** Answers a probe; returns false when the path is none. */
export type Probes = (path: string, req: IncomingMessage, res: ServerResponse) => boolean;

/** `/livez` says that the process runs, `/readyz` that it takes calls; `/health` and `/ready` are their aliases. */
export function createProbes(isReady: () => Readiness | Promise<Readiness>): Probes {
  return (path, req, res) => {
    if (req.method !== "GET" && req.method !== "HEAD") {
      return false;
    }
    if (path === "/livez" || path === "/health") {
      answer(res, true);
      return true;
    }
    if (path === "/readyz" || path === "/ready") {
      askReadiness(isReady).then(
        (readiness) => answer(res, readiness),
        () => answer(res, "the check failed"),
      );
      return true;
    }
    return false;
  };
}

async function askReadiness(isReady: () => Readiness | Promise<Readiness>): Promise<Readiness> {
  const { promise: tooLate, resolve } = Promise.withResolvers<Readiness>();
  const timer = setTimeout(() => resolve("the check takes too long"), MAX_WAIT_MS);
  try {
    return await Promise.race([isReady(), tooLate]);
  } finally {
    clearTimeout(timer);
  }
}

function answer(res: ServerResponse, readiness: Readiness): void {
  const why = typeof readiness === "string" ? readiness : "not ready";
  res.statusCode = readiness === true ? 200 : 503;
  res.setHeader("content-type", "text/plain");
  res.setHeader("cache-control", "no-store");
  res.end(`${readiness === true ? "ok" : why}\n`);
}
