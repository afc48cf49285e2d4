import pg from "pg";
import { connectionStringOf } from "./connection-string.ts";
import type { Sockets } from "./sockets.ts";

/** Asks Postgres whether it is there, over a connection of its own. */
export interface PostgresProbe {
  /** Rejects, with the reason, unless Postgres answers in time and takes writes. */
  ask(): Promise<void>;
  close(): Promise<void>;
}

/** What a probe needs. */
export interface PostgresProbeOptions {
  readonly url: string;
  readonly sockets: Sockets;
}

/** How long Postgres may take to answer, in milliseconds: statements may wait, this one has no reason to. */
const answerMs = 1000;
/** How long it may take to take a connection, in milliseconds. */
const connectMs = 5000;
/** What it gets besides once that time is over, in milliseconds: this process may have been paused. */
const afterPauseMs = 100;

/** Creates a probe; it connects when it is first asked, and anew after each failure. */
export function createPostgresProbe({ url, sockets }: PostgresProbeOptions): PostgresProbe {
  let client: pg.Client | undefined;
  let isThere = true;
  /** Counts the questions given up: a connection that is made for one of them is ended. */
  let givenUpCount = 0;
  const connect = async (): Promise<pg.Client> => {
    const fresh = new pg.Client({
      connectionString: connectionStringOf(url),
      connectionTimeoutMillis: connectMs,
      application_name: "holdfast-probe",
      stream: () => sockets.open(),
    });
    // A connection that is lost by itself says nothing of Postgres: whether a new one can be made does.
    fresh.on("error", () => {
      client = client === fresh ? undefined : client;
    });
    await fresh.connect();
    return fresh;
  };
  const question = async (): Promise<void> => {
    const before = givenUpCount;
    const asked = client ?? (await connect());
    if (givenUpCount !== before) {
      void asked.end().catch(() => {});
      throw new Error("nobody waits for the answer any more");
    }
    client = asked;
    const { rows } = await asked.query("select current_setting('transaction_read_only') as is_read_only");
    if (rows[0]?.is_read_only === "on") {
      throw new Error("it takes no writes");
    }
  };
  return {
    ask: async () => {
      // To make a connection takes a busy Postgres long. One that is away is asked again soon, so that its return is noticed.
      const silenceMs = client === undefined && isThere ? connectMs : answerMs;
      isThere = await answeredInTime(question(), silenceMs, sockets).then(
        () => true,
        (error) => {
          givenUpCount += 1;
          void client?.end().catch(() => {});
          client = undefined;
          isThere = false;
          throw error;
        },
      );
    },
    close: async () => {
      givenUpCount += 1;
      await client?.end();
    },
  };
}

/** Rejects when nothing at all comes from Postgres for too long: one that answers others is slow, not away. */
async function answeredInTime(answer: Promise<void>, silenceMs: number, sockets: Sockets): Promise<void> {
  const { promise: tooLate, reject } = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout;
  const wait = (): void => {
    const before = sockets.receivedCount;
    timer = setTimeout(() => {
      // After a pause of this process the answer may be there already, and is read only after the timers have run.
      timer = setTimeout(() => {
        if (sockets.receivedCount > before) {
          wait();
        } else {
          reject(new Error("it does not answer"));
        }
      }, afterPauseMs);
    }, silenceMs);
  };
  wait();
  await Promise.race([answer, tooLate]).finally(() => clearTimeout(timer));
}
