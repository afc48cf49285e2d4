import { expect, test } from "vitest";
import { connectionStringOf } from "../../src/postgres/connection-string.ts";

const base = "postgres://u:p@db:5432/shop";

test.each(["prefer", "require", "verify-ca"])("sslmode=%s is verify-full, as pg takes it", (mode) => {
  expect(connectionStringOf(`${base}?sslmode=${mode}`)).toBe(`${base}?sslmode=verify-full`);
  expect(connectionStringOf(`${base}?a=b&sslmode=${mode}&sslrootcert=/ca.pem`)).toBe(
    `${base}?a=b&sslmode=verify-full&sslrootcert=/ca.pem`,
  );
});

test.each([
  "",
  "?sslmode=disable",
  "?sslmode=no-verify",
  "?sslmode=verify-full",
  "?uselibpqcompat=true&sslmode=require",
])("an address with %j stays as it is", (query) => {
  expect(connectionStringOf(`${base}${query}`)).toBe(`${base}${query}`);
});
