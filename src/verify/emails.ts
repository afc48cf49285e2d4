import { readAsOf } from "../postgres/shops.ts";
import { chunksOf, type Looks } from "./looks.ts";
import { pageCount, type Run } from "./run.ts";

/** A user's e-mail as the table has it. */
interface EmailRow {
  readonly userId: string;
  readonly key: string;
}

/**
 * The e-mails in Redis are those of the table of users. The table is read after a look, and the model is folded forward to
 * what it shows: of users whose profile did not change in between, both must say the same. E-mails are not told.
 */
export async function compareEmails(run: Run, looks: Looks): Promise<void> {
  const { model } = run;
  const differs = (userId: string, expected: string, found: string): void => {
    const position = model.users.get(userId)?.profilePosition ?? model.position;
    run.report({ kind: "EMAIL", subject: `user:${userId}`, position, store: "REDIS", expected, found });
  };
  for await (const { payload, position } of looks.scan("emails")) {
    run.checkedCount += payload.length;
    const rows = await readEmails(run, [...new Set(payload.map(([, userId]) => userId))]);
    for (const [key, userId] of payload) {
      const hasChanged = (model.users.get(userId)?.profilePosition ?? 0) > position;
      if (!hasChanged && rows.get(userId)?.key !== key) {
        differs(userId, "", "an e-mail that is not this user's");
      }
    }
  }
  for (const userIds of chunksOf([...model.users.keys()], pageCount)) {
    const first = await looks.read(
      "users",
      userIds.map((id) => `${id}:email`),
    );
    const rows = await readEmails(run, userIds);
    for (const [index, userId] of userIds.entries()) {
      const hasChanged = (model.users.get(userId)?.profilePosition ?? 0) > first.position;
      if (!hasChanged && (rows.get(userId)?.key ?? "") !== (first.values[index] ?? "")) {
        differs(userId, "the user's e-mail", first.values[index] === undefined ? "" : "another e-mail");
      }
    }
    const readAt = model.position;
    const withEmail = [...rows.values()].filter(({ key }) => key !== "");
    if (withEmail.length === 0) {
      continue;
    }
    const second = await looks.read(
      "emails",
      withEmail.map(({ key }) => key),
    );
    for (const [index, { userId }] of withEmail.entries()) {
      const hasChanged = (model.users.get(userId)?.profilePosition ?? 0) > readAt;
      const owner = second.values[index];
      if (!hasChanged && owner !== userId) {
        differs(userId, `owner=${userId}`, owner === undefined ? "" : `owner=${owner}`);
      }
    }
  }
}

async function readEmails(run: Run, userIds: readonly string[]): Promise<Map<string, EmailRow>> {
  const { db, model } = run;
  const found = await readAsOf(db, model.shopId, (trx) =>
    trx
      .selectFrom("users")
      .select(["user_id as userId", "email_key as key"])
      .where("shop_id", "=", model.shopId)
      .where("user_id", "in", userIds.length === 0 ? [""] : [...userIds])
      .execute(),
  );
  await run.foldTo(found?.position ?? 0);
  return new Map(found?.value.map((row) => [row.userId, row]));
}
