import { expect, test } from "vitest";
import { checkToken } from "../src/target.ts";

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
