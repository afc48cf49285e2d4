import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";

/** A port of the loopback that nobody listens on now. */
export function chooseFreePort(): Promise<number> {
  return probePort(0);
}

/**
 * The same, below those that the system gives to outgoing connections: for a server that leaves its port now and then, or is
 * started later, so that nobody has taken it meanwhile.
 */
export async function chooseLastingPort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const isFree = await probePort(port).catch(() => undefined);
    if (isFree !== undefined) return port;
  }
}

async function probePort(wanted: number): Promise<number> {
  const probe = createServer().listen(wanted, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, "close");
  return port;
}
