import pg from "pg";
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

/** How long Postgres may take to answer or to take a connection, in milliseconds: statements may wait, this one has no reason to. */
const answerMs = 1000;
/** What it gets besides once that time is over, in milliseconds: this process may have been paused. */
const afterPauseMs = 100;

/** Creates a probe; it connects when it is first asked, and anew after each failure. */
export function createPostgresProbe({ url, sockets }: PostgresProbeOptions): PostgresProbe {
  let client: pg.Client | undefined;
  const connect = async (): Promise<pg.Client> => {
    const fresh = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: 2 * answerMs,
      application_name: "holdfast-probe",
      stream: () => sockets.open(),
    });
    fresh.on("error", () => {}); // the next question fails, and tells
    await fresh.connect();
    return fresh;
  };
  const question = async (): Promise<void> => {
    client ??= await connect();
    const { rows } = await client.query("select current_setting('transaction_read_only') as is_read_only");
    if (rows[0]?.is_read_only === "on") {
      throw new Error("it takes no writes");
    }
  };
  return {
    ask: () =>
      answeredInTime(question(), sockets).catch((error) => {
        void client?.end().catch(() => {});
        client = undefined;
        throw error;
      }),
    close: async () => {
      await client?.end();
    },
  };
}

/** Rejects when nothing at all comes from Postgres for too long: one that answers others is slow, not away. */
async function answeredInTime(answer: Promise<void>, sockets: Sockets): Promise<void> {
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
    }, answerMs);
  };
  wait();
  await Promise.race([answer, tooLate]).finally(() => clearTimeout(timer));
}
