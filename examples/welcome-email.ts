// Sends an e-mail to every new user who has an address.
//
// usage: SMTP_URL=smtp://127.0.0.1:2525 node examples/welcome-email.ts
import { createMailer } from "./mailer.ts";
import { runWorker } from "./work-queue.ts";

const name = "welcome-email";
const mailer = createMailer(name);

await runWorker({
  name,
  eventTypes: ["user_created"],
  steps: [
    async (event, holdfast) => {
      if (event.payload.case !== "userCreated" || event.payload.value.user === undefined) {
        return;
      }
      const { userId, referralCode } = event.payload.value.user;
      const text = `Welcome! Bring a friend with your code ${referralCode}: there are credits for both of you.\n`;
      await mailer.send({ userId, subject: "Welcome", text }, event, holdfast);
    },
  ],
  close: mailer.close,
});
