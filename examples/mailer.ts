import { createTransport } from "nodemailer";
import type { Event } from "../gen/holdfast/v1/event_service_pb.js";
import { callTimeoutMs, type Holdfast } from "./work-queue.ts";

/** An e-mail to a user of the shop. */
export interface Mail {
  readonly userId: string;
  readonly subject: string;
  readonly text: string;
}

/** Sends e-mail about events, over one connection. */
export interface Mailer {
  /** Sends an e-mail to a user who has an address. */
  send(mail: Mail, event: Event, holdfast: Holdfast): Promise<void>;
  close(): void;
}

/** Users may be created with any text for an e-mail address; what is none for sure is not tried. */
const addressPattern = /^[^\s<>()[\]\\,;:"@]+@[^\s<>()[\]\\,;:"@]+$/;

/** Whether the mail server refused the receiver for good (5xx): an answer, unlike a failure that another attempt may mend. */
function isUndeliverable(error: unknown): boolean {
  const { command, responseCode = 0 } = error as { command?: string; responseCode?: number };
  return command === "RCPT TO" && responseCode >= 500;
}

/** Creates a mailer for the server of SMTP_URL (`smtp://host:port`, `smtps://user:password@host`); MAIL_FROM is the sender. */
export function createMailer(name: string): Mailer {
  const { SMTP_URL: url = "", MAIL_FROM: from = "shop@example.com" } = process.env;
  if (url === "") {
    console.error(`${name}: SMTP_URL is not set; for example SMTP_URL=smtp://127.0.0.1:2525`);
    process.exit(1);
  }
  const timeouts = { connectionTimeout: 10_000, greetingTimeout: 10_000, socketTimeout: 30_000 };
  const transport = createTransport({ url, pool: true, maxConnections: 1, ...timeouts });
  return {
    send: async ({ userId, subject, text }, event, { shopId, users }) => {
      // Events carry no e-mail address, so that it can be erased; who needs it asks.
      const { user } = await users.getUser({ shopId, userId }, { timeoutMs: callTimeoutMs });
      const address = user?.email.trim() ?? ""; // Holdfast keeps it as it was given, blanks included
      if (user === undefined || !addressPattern.test(address)) {
        console.log(`${name}: ${userId} has no e-mail address`);
        return;
      }
      const to = { name: user.displayName, address };
      // The same event always gives the same id: a server or reader that knows it drops the second copy.
      const messageId = `<${shopId}.${event.position}.${event.index}.${name}@holdfast.example>`;
      try {
        await transport.sendMail({ from, to, subject, text, messageId });
        console.log(`${name}: sent to ${userId}: ${subject}`);
      } catch (error) {
        if (!isUndeliverable(error)) {
          throw error;
        }
        console.log(`${name}: ${userId} cannot be reached: ${(error as Error).message}`);
      }
    },
    close: () => transport.close(),
  };
}
