/** How many slots a Redis Cluster shares among its masters. */
const slotCount = 16_384;

/** One node's word on who serves which slots, from CLUSTER NODES. */
export interface Claim {
  /** `host:port` of a master. */
  readonly address: string;
  /** Redis' own rule: of two masters that claim a slot, the one with the higher number has it. */
  readonly configEpoch: number;
  /** First and last slot. */
  readonly ranges: readonly (readonly [number, number])[];
}

/** What a node knows about its cluster. */
export interface ClusterView {
  readonly claims: readonly Claim[];
  /** `host:port` of all nodes, replicas too. */
  readonly addresses: readonly string[];
}

/**
 * The slot of a key: CRC16 (XMODEM) of its hash tag. Shop ids have no braces, so the tag is the text in the first pair; a
 * key without one counts as a whole.
 */
export function slotOf(key: string): number {
  const tag = /\{([^}]+)\}/.exec(key)?.[1] ?? key;
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) {
      crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021;
    }
    crc &= 0xffff;
  }
  return crc % slotCount;
}

/** Reads CLUSTER NODES. A node that does not know its own host is where it was asked. */
export function parseClusterNodes(text: string, askedHost: string): ClusterView {
  const claims: Claim[] = [];
  const addresses: string[] = [];
  for (const line of text.split("\n")) {
    const [, place = "", flags = "", , , , configEpoch, , ...slots] = line.trim().split(" ");
    const address = completeAddress(place.replace(/@.*$/, ""), askedHost);
    if (address === undefined || /noaddr|handshake/.test(flags)) {
      continue;
    }
    addresses.push(address);
    // What is in brackets is on its way to or from another node; it is said with ASK when it matters.
    const ranges = slots.filter((range) => /^\d/.test(range)).map(parseRange);
    if (flags.includes("master") && ranges.length > 0) {
      claims.push({ address, configEpoch: Number(configEpoch), ranges });
    }
  }
  return { claims, addresses };
}

function parseRange(range: string): readonly [number, number] {
  const [first = "", last = first] = range.split("-");
  return [Number(first), Number(last)];
}

/** `:6379` is a port of the host that said so. Undefined for a node without a port. */
export function completeAddress(place: string, askedHost: string): string | undefined {
  const [, host, port] = /^(.*):(\d+)$/.exec(place) ?? [];
  return port === undefined || port === "0" ? undefined : `${host || askedHost}:${port}`;
}

/** The address that serves each slot, by what several nodes say: one that was cut off from the others knows old things. */
export function mergeClaims(views: readonly ClusterView[]): (string | undefined)[] {
  const slots = new Array<string | undefined>(slotCount).fill(undefined);
  const claims = views.flatMap((view) => view.claims).sort((left, right) => left.configEpoch - right.configEpoch);
  for (const { address, ranges } of claims) {
    for (const [first, last] of ranges) {
      slots.fill(address, first, last + 1);
    }
  }
  return slots;
}
