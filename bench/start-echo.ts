import { startChild } from "./child.ts";
import type { Contestant } from "./contestant.ts";
import type { EchoRequest } from "./echo-server.ts";

/** grpc-js and nothing behind it. */
export async function startEcho(response: Uint8Array, cleanUp: AsyncDisposableStack): Promise<Contestant> {
  const child = startChild("./echo-server.ts", cleanUp);
  const nothing = async (): Promise<undefined> => undefined;
  return {
    name: "echo",
    port: await child.ask<number>({ response } satisfies EchoRequest),
    pid: child.pid,
    redisPid: undefined,
    enter: nothing,
    settle: nothing,
    leave: nothing,
    supply: nothing,
    countSold: nothing,
    audit: nothing,
  };
}
