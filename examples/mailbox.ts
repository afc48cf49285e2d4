// An SMTP server that prints what it is sent and delivers nothing, to try the workers with.
//
// usage: node examples/mailbox.ts [PORT]      (default: 2525)
import { text } from "node:stream/consumers";
import { SMTPServer } from "smtp-server";

const port = Number(process.argv[2] ?? 2525);
const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ["STARTTLS"],
  onData: (stream, _, callback) => {
    text(stream).then((mail) => {
      console.log(`${mail}\n`);
      callback();
    }, callback);
  },
});
server.listen(port, "127.0.0.1", () => console.log(`waiting for e-mail: SMTP_URL=smtp://127.0.0.1:${port}`));
