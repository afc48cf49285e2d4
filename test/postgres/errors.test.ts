import { describe, expect, test } from "vitest";
import { isConnectionLost, isPostgresDown } from "../../src/postgres/errors.ts";

const error = (message: string, code?: string): Error =>
  Object.assign(new Error(message), code === undefined ? {} : { code });

describe("an error of Postgres", () => {
  test.each([
    ["a connection that was cut", error("read ECONNRESET", "ECONNRESET")],
    ["a connection that was cut while writing", error("write EPIPE", "EPIPE")],
    ["a connection that an administrator ended", error("terminating connection due to administrator command", "57P01")],
    ["a connection that ended", error("Connection terminated unexpectedly")],
  ])("%s says nothing of Postgres itself", (_, lost) => {
    expect([isPostgresDown(lost), isConnectionLost(lost)]).toEqual([true, true]);
  });

  test.each([
    ["a connection that cannot be made", error("cannot connect: connect ECONNREFUSED", "ECONNREFUSED")],
    ["a connection that is cut while it is made", error("cannot connect: read ECONNRESET", "ECONNRESET")],
    ["a server that starts", error("cannot connect: the database system is starting up", "57P03")],
    ["a server that has no room", error("sorry, too many clients already", "53300")],
  ])("%s means that it is away", (_, away) => {
    expect([isPostgresDown(away), isConnectionLost(away)]).toEqual([true, false]);
  });
});
