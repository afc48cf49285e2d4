import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { SMTPServer } from "smtp-server";

/** An e-mail as the sink got it. */
export interface SunkMail {
  readonly from: string;
  readonly to: readonly string[];
  /** Header values by lower-case name. */
  readonly headers: ReadonlyMap<string, string>;
  readonly text: string;
}

/** An SMTP server that keeps what it accepts. */
export interface SmtpSink {
  /** `smtp://127.0.0.1:<port>` */
  readonly url: string;
  /** Everything that was accepted, in order. */
  readonly mails: readonly SunkMail[];
  /** How many times e-mail was turned away. */
  readonly refusedCount: number;
  /** From now on e-mail is turned away for the time being (451), or accepted again. */
  refuse(refuses: boolean): void;
  stop(): Promise<void>;
}

/** Starts an SMTP server on a free port. It knows every mailbox but those whose names begin with `unknown`. */
export async function startSmtpSink(): Promise<SmtpSink> {
  const mails: SunkMail[] = [];
  const state = { refuses: false, refusedCount: 0 };
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ["STARTTLS"],
    onRcptTo: ({ address }, _, callback) => {
      const isUnknown = address.startsWith("unknown");
      callback(isUnknown ? Object.assign(new Error("no such mailbox"), { responseCode: 550 }) : undefined);
    },
    onData: (stream, { envelope }, callback) => {
      const receive = async (): Promise<void> => {
        const mail = parse(await text(stream));
        if (state.refuses) {
          state.refusedCount += 1;
          throw Object.assign(new Error("come back later"), { responseCode: 451 });
        }
        const from = envelope.mailFrom === false ? "" : envelope.mailFrom.address;
        mails.push({ ...mail, from, to: envelope.rcptTo.map(({ address }) => address) });
      };
      receive().then(() => callback(), callback);
    },
  });
  // A worker that is killed leaves a broken connection.
  server.on("error", () => {});
  server.listen(0, "127.0.0.1");
  await once(server.server, "listening");
  return {
    url: `smtp://127.0.0.1:${(server.server.address() as AddressInfo).port}`,
    mails,
    get refusedCount() {
      return state.refusedCount;
    },
    refuse: (refuses) => {
      state.refuses = refuses;
    },
    stop: () => new Promise((resolve) => server.close(resolve)),
  };
}

function parse(message: string): Pick<SunkMail, "headers" | "text"> {
  const end = message.indexOf("\r\n\r\n");
  const lines = message
    .slice(0, end)
    .replace(/\r\n[ \t]+/g, " ")
    .split("\r\n");
  const headers = lines.map((line) => [
    line.slice(0, line.indexOf(":")).toLowerCase(),
    line.slice(line.indexOf(":") + 1).trim(),
  ]);
  return { headers: new Map(headers as [string, string][]), text: message.slice(end + 4).replaceAll("\r\n", "\n") };
}
