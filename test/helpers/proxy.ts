import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** Whether a request is meant; sees the bytes as they come from the client, usually one request at a time. */
export type RequestMatch = (request: Buffer) => boolean;

/** A TCP proxy in front of Redis or PostgreSQL that can do what networks do. */
export interface TcpProxy {
  /** The target's URL, with the proxy's port. */
  readonly url: string;
  /** Counts the requests that contain a text, from now on. */
  countRequests(text: string): () => number;
  /**
   * Forwards the next request that matches, and cuts the connection in place of its answer, which the target has sent by
   * then. Resolves when that has happened.
   */
  dropAnswer(match: RequestMatch): Promise<void>;
  /** Drops no answers any more that nobody has asked for yet. */
  dropNoMore(): void;
  /** Keeps the next request that matches, and what follows it on its connection. Resolves when there is one. */
  hold(match: RequestMatch): Promise<void>;
  /** Forwards what was kept. */
  release(): void;
  /** Changes what the target answers. Texts must keep their length. */
  replaceInAnswers(from: string, to: string): void;
  /** Delays everything, in both directions, by so many milliseconds. */
  delay(ms: number): void;
  /** From now on forwards to another server; connections to the one before are cut. */
  retarget(targetUrl: string): void;
  /** Forwards nothing in either direction until `thaw`; connections stay, and new ones are accepted. */
  freeze(): void;
  /** Forwards what came meanwhile, and goes on. */
  thaw(): void;
  /** Forwards nothing any more, as if everybody had gone silent: connections of now stay so, new ones until `accept`. */
  swallow(): void;
  /** From now on forwards requests, and nothing of what is answered to them, until `cut`. */
  loseAnswers(): void;
  /** Cuts all connections at once; new ones are accepted. */
  cut(): void;
  /** Cuts all connections, and new ones until `accept`. */
  refuse(): void;
  /** New connections that were cut since the last `refuse`. */
  readonly refusedCount: number;
  accept(): void;
  stop(): Promise<void>;
}

interface Wish {
  readonly match: RequestMatch;
  readonly done: () => void;
}

interface Pair {
  readonly client: Socket;
  readonly target: Socket;
  /** Set once an answer is to be dropped. */
  drops: (() => void) | undefined;
  /** Set once requests are kept. */
  kept: Buffer[] | undefined;
  /** Whether nothing is forwarded any more. */
  isSilent: boolean;
}

/** Starts a proxy on a free port in front of the server of a URL. */
export async function startProxy(targetUrl: string): Promise<TcpProxy> {
  const url = new URL(targetUrl);
  let address = addressOf(url);
  const pairs = new Set<Pair>();
  const drops: Wish[] = [];
  const holds: Wish[] = [];
  const counters: ((request: Buffer) => void)[] = [];
  let delayMs = 0;
  let frozen: (() => void)[] | undefined;
  let refuses = false;
  let swallows = false;
  let losesAnswers = false;
  let refusedCount = 0;
  let replacement: { from: string; to: string } | undefined;

  const later = (act: () => void): void => {
    if (frozen !== undefined) frozen.push(act);
    else if (delayMs === 0) act();
    else setTimeout(act, delayMs);
  };
  const end = (pair: Pair): void => {
    pairs.delete(pair);
    pair.client.destroy();
    pair.target.destroy();
  };
  const onRequest = (pair: Pair, request: Buffer): void => {
    if (pair.isSilent) return;
    for (const count of counters) count(request);
    const isHeld = pair.kept === undefined ? take(holds, request) : undefined;
    if (isHeld !== undefined) pair.kept = [];
    isHeld?.();
    if (pair.kept !== undefined) {
      pair.kept.push(request);
      return;
    }
    pair.drops ??= take(drops, request);
    later(() => pair.target.write(request));
  };
  const onAnswer = (pair: Pair, answer: Buffer): void => {
    if (pair.isSilent || losesAnswers) return;
    if (pair.drops !== undefined) {
      end(pair);
      pair.drops();
      return;
    }
    const { from, to } = replacement ?? { from: "", to: "" };
    const sent = from === "" ? answer : Buffer.from(answer.toString("latin1").replaceAll(from, to), "latin1");
    later(() => pair.client.write(sent));
  };
  const server = createServer({ noDelay: true }, (client) => {
    if (refuses) {
      refusedCount += 1;
      client.destroy();
      return;
    }
    const target = connect({ ...address, noDelay: true });
    const pair: Pair = { client, target, drops: undefined, kept: undefined, isSilent: swallows };
    pairs.add(pair);
    client.on("data", (request) => onRequest(pair, request as Buffer));
    pair.target.on("data", (answer) => onAnswer(pair, answer as Buffer));
    for (const socket of [client, pair.target]) {
      // What went wrong shows as the end of the connection, on both sides.
      socket.on("error", () => {});
      socket.on("close", () => end(pair));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url.port = String((server.address() as AddressInfo).port);

  const wish = (list: Wish[], match: RequestMatch): Promise<void> =>
    new Promise((done) => {
      list.push({ match, done });
    });
  const cut = (): void => {
    losesAnswers = false;
    [...pairs].forEach(end);
  };
  return {
    url: url.href,
    countRequests: (text) => {
      let found = 0;
      counters.push((request) => {
        if (request.includes(text)) found += 1;
      });
      return () => found;
    },
    dropAnswer: (match) => wish(drops, match),
    dropNoMore: () => {
      drops.length = 0;
    },
    hold: (match) => wish(holds, match),
    release: () => {
      for (const pair of pairs) {
        const kept = pair.kept ?? [];
        pair.kept = undefined;
        for (const request of kept) pair.target.write(request);
      }
    },
    replaceInAnswers: (from, to) => {
      replacement = { from, to };
    },
    delay: (ms) => {
      delayMs = ms;
    },
    retarget: (next) => {
      address = addressOf(new URL(next));
      cut();
    },
    freeze: () => {
      frozen ??= [];
    },
    thaw: () => {
      const acts = frozen ?? [];
      frozen = undefined;
      for (const act of acts) act();
    },
    swallow: () => {
      swallows = true;
      for (const pair of pairs) pair.isSilent = true;
    },
    loseAnswers: () => {
      losesAnswers = true;
    },
    cut,
    refuse: () => {
      refuses = true;
      refusedCount = 0;
      cut();
    },
    get refusedCount() {
      return refusedCount;
    },
    accept: () => {
      refuses = false;
      swallows = false;
    },
    stop: async () => {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}

function addressOf({ hostname, port }: URL): { readonly host: string; readonly port: number } {
  return { host: hostname, port: Number(port) };
}

/** Takes the first wish that a request fulfils off the list; returns whom to tell. */
function take(wishes: Wish[], request: Buffer): (() => void) | undefined {
  const index = wishes.findIndex(({ match }) => match(request));
  return index < 0 ? undefined : wishes.splice(index, 1)[0]?.done;
}
