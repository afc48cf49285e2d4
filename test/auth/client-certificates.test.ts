import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PeerCertificate } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { type ClientMap, createCertificateReader, readClientMap } from "../../src/auth/client-certificates.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";

/** What Node says of a certificate, as far as it is looked at. */
function certificate(subjectaltname: string | undefined, CN = "front", validTo = "Jan  1 00:00:00 2100 GMT") {
  const fingerprint256 = crypto.randomUUID();
  return { subject: { CN }, subjectaltname, valid_to: validTo, fingerprint256 } as unknown as PeerCertificate;
}

const read = (from: PeerCertificate, clients?: ClientMap) => createCertificateReader(() => clients)(from);
const readWrite = new Set(["holdfast.read", "holdfast.write"]);

test.each([
  ["URI:shop:berlin", "front", new Set(["berlin"]), readWrite],
  ["DNS:front.example, URI:shop:berlin, URI:shop:rome", "front.example", new Set(["berlin", "rome"]), readWrite],
  ["URI:spiffe://shop/front, URI:shop:*", "spiffe://shop/front", "*", readWrite],
  [
    "URI:shop:a, URI:scope:holdfast.read, URI:scope:holdfast.events",
    "front",
    new Set(["a"]),
    new Set(["holdfast.read", "holdfast.events"]),
  ],
  ["DNS:toString, URI:shop:berlin", "toString", new Set(["berlin"]), readWrite],
  ["DNS:front.example", "front.example", new Set(), readWrite],
  [undefined, "front", new Set(), readWrite],
])("a certificate for %s is of %s", (names, principal, shops, scopes) => {
  expect(read(certificate(names))).toMatchObject({ principal, shops, scopes });
});

test("a name that is written like several names is one name", () => {
  expect(read(certificate('URI:"http://a.example/, URI:shop:berlin", DNS:b')).shops).toEqual(new Set());
  expect(read(certificate('DNS:"x, URI:shop:berlin", URI:shop:rome')).shops).toEqual(new Set(["rome"]));
});

test.each<[string, string, object]>([
  ["front", "", { principal: "front", shops: new Set(["rome"]), scopes: new Set(["holdfast.read"]) }],
  ["front", "URI:shop:berlin", { principal: "front", shops: new Set() }],
  ["front", "DNS:a.example", { principal: "a.example", shops: new Set() }],
  ["other", "URI:shop:*, URI:scope:holdfast.admin", { shops: new Set() }],
  ["b.example", "DNS:a.example, DNS:b.example", { principal: "b.example", shops: new Set(["rome"]) }],
  ["shop:berlin", "URI:shop:berlin", { principal: "front", shops: new Set() }],
  ["__proto__", "URI:shop:berlin", { principal: "front", shops: new Set() }],
])("with %s in the settings, a certificate for front and %s is %j", (name, names, identity) => {
  const clients = JSON.parse(`{"${name}":{"shops":["rome"],"scope":"holdfast.read"}}`);
  expect(read(certificate(names), clients)).toMatchObject(identity);
});

test.each([
  ["has expired", certificate("URI:shop:a", "front", "Jan  1 00:00:00 2020 GMT"), "has expired"],
  ["has a time nobody can read", certificate("URI:shop:a", "seed"), "has no name"],
  ["has Holdfast's own name", certificate(undefined, "payment-worker"), "has no name"],
])("a certificate that %s is refused", (_name, from, message) => {
  expect(() => read(from)).toThrow(message);
});

/** A file with a map, gone after the test. */
async function writeMap(text: string): Promise<string> {
  const folder = await createTemporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, "clients.json");
  await writeFile(file, text);
  return file;
}

test.each([
  ["no JSON", "{"],
  ["a list", "[]"],
  ["a list of shops", '{"front":["berlin"]}'],
])("a map that is %s does not let the server start", async (_name, text) => {
  const file = await writeMap(text);

  await expect(readClientMap(file)).rejects.toThrow(/HOLDFAST_TLS_CLIENTS: .+clients\.json needs/);
});

test("a map is read as it is written", async () => {
  const file = await writeMap('{"front":{"shops":["berlin"],"scope":"holdfast.read"}}');

  expect(await readClientMap(file)).toEqual({ front: { shops: ["berlin"], scope: "holdfast.read" } });
});
