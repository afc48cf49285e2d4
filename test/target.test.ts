import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { AdminService } from "../gen/holdfast/v1/admin_service_pb.js";
import { checkToken, explainTarget, openTarget } from "../src/target.ts";

test.each([
  ["shop.example:50051", false, "token", true],
  ["10.0.0.7:50051", false, "token", true],
  ["[2001:db8::1]:50051", false, "token", true],
  ["shop.example:50051", true, "token", false],
  ["shop.example:50051", false, undefined, false],
  ["127.0.0.1:50051", false, "token", false],
  ["localhost:50051", false, "token", false],
  ["[::1]:50051", false, "token", false],
])("calling %s with TLS %s and the token %s is refused: %s", (target, tls, token, refused) => {
  const check = () => checkToken(target, { tls, token });
  if (refused) expect(check).toThrow(`HOLDFAST_TOKEN would go to ${target} unencrypted: add --tls`);
  else expect(check).not.toThrow();
});

test("a server without TLS that is called with it is named", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const target = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const admin = createClient(AdminService, openTarget(target, { tls: true, token: undefined }));
  const error = await admin.listShops({}).catch((failure: unknown) => failure);
  server.close();

  expect(explainTarget(error, target, true)).toMatchObject({
    name: "StartError",
    message: `the server at ${target} does not speak TLS: call it without --tls`,
  });
});

test.each([
  [false, ": one that speaks TLS is called with --tls"],
  [true, ""],
])("a call that breaks off, with --tls %s, says%s", (tls, advice) => {
  const error = new ConnectError("http/2 stream closed with error code CANCEL (0x8)", Code.Canceled);
  expect(explainTarget(error, "h:1", tls)).toMatchObject({
    name: "StartError",
    message: `the server at h:1 broke the call off${advice}`,
  });
});
