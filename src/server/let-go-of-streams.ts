import type { ServerHttp2Session } from "node:http2";
import { setFlagsFromString } from "node:v8";
import { ForgetfulMap } from "../forgetful-map.ts";

/** What Node keeps of a session under a symbol that it does not export. */
interface SessionState {
  /** The open streams by their numbers; Node only uses what a ForgetfulMap has. */
  streams?: { readonly size?: unknown };
}

// For the whole process, and before the first call: what V8 has decided by then stays.
setFlagsFromString("--no-allocation-site-pretenuring");

/**
 * Has the streams of a session collected with the young generation once they are over, each with all that its call has made. Two
 * things would keep nearly all of them until everything is collected, in scavenges of 20 ms instead of 2 (docs/adr/0021-garbage-of-calls.md):
 *
 * - the Map in which Node keeps the open ones, see ForgetfulMap;
 * - V8, which makes the objects of a place in the code in the old generation from the start when many of that place once survived, as
 *   those of 256 calls in flight do. The object with a stream's listeners is one of them, and keeps its stream.
 *
 * A Node that keeps its streams in another way is left as it is.
 */
export function letGoOfStreams(session: ServerHttp2Session): void {
  const name = Object.getOwnPropertySymbols(session).find(({ description }) => description === "state");
  const state = name === undefined ? undefined : (session as unknown as Record<symbol, SessionState>)[name];
  if (state?.streams?.size === 0) {
    state.streams = new ForgetfulMap();
  }
}
