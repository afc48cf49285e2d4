import type { ServerHttp2Session } from "node:http2";
import type { DoorLimits } from "../config.ts";

/** What Node's servers of HTTP/2 keep of the limits by themselves. */
export function http2Options({ callsPerConnection, headerBytes, resetsPerSecond }: DoorLimits) {
  return {
    settings: { maxConcurrentStreams: callsPerConnection, maxHeaderListSize: headerBytes },
    // Streams that are opened and reset at once pass the limit of concurrent streams (CVE-2023-44487).
    streamResetRate: resetsPerSecond,
    streamResetBurst: 10 * resetsPerSecond,
    // Node ends a connection for the hundredth stream in a row above its limit, and counts those that were broken off and not
    // cleared away yet: calls that end at their deadline, when others follow, would take every other call with them.
    maxSessionRejectedStreams: 1_000_000,
  };
}

/** Ends a session whose peer does not begin to speak HTTP/2, or does not say that it knows our settings: until then no limit holds. */
export function expectSettings(session: ServerHttp2Session, handshakeMs: number): void {
  const timer = setTimeout(() => session.destroy(), handshakeMs).unref();
  const stop = (): void => clearTimeout(timer);
  session.once("localSettings", stop).once("close", stop);
}

/** Asks a peer from time to time whether it is there, and ends its session when it is not. */
export function pingPeer(
  session: ServerHttp2Session,
  { pingMs, pingTimeoutMs }: Pick<DoorLimits, "pingMs" | "pingTimeoutMs">,
): void {
  let unanswered: NodeJS.Timeout | undefined;
  const ping = (): void => {
    if (session.destroyed || unanswered !== undefined) return;
    unanswered = setTimeout(() => session.destroy(), pingTimeoutMs).unref();
    session.ping((error) => {
      if (error !== null) return;
      clearTimeout(unanswered);
      unanswered = undefined;
    });
  };
  const timer = setInterval(ping, pingMs).unref();
  session.once("close", () => {
    clearInterval(timer);
    clearTimeout(unanswered);
  });
}
