import { execFile } from "node:child_process";
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createTemporaryFolder } from "../helpers/servers.ts";
import { createShop } from "../helpers/shop.ts";
import { useHoldfast } from "../helpers/use-holdfast.ts";

const holdfast = useHoldfast();
const project = fileURLToPath(new URL("../..", import.meta.url));
const tools = join(project, "node_modules");
const run = promisify(execFile);
let folder: string;

/** A program of another package: it has the packed Holdfast in its node_modules, and nothing of this tree. */
const program = `
import { createGrpcTransport, createHoldfastClient, RefusedError, type Refusal } from "holdfast";
import { PaymentMethod } from "holdfast/gen/holdfast/v1/resources_pb.js";

const [target = "", shopId = ""] = process.argv.slice(2);
const transport = createGrpcTransport({ target });
const { orders } = createHoldfastClient({ transport });
const buy = (quantity: number) =>
  orders.placeOrder({ shopId, lines: [{ sku: "ps5", quantity }], paymentMethod: PaymentMethod.NONE });
const left = (refusal: Refusal): bigint => (refusal.reason === "SOLD_OUT" ? refusal.metadata.availableCount : -1n);

// @ts-expect-error: the values have types, which the package brings along
export const wrong = (refusal: Refusal): number => (refusal.reason === "SOLD_OUT" ? refusal.metadata.availableCount : 0);

const { order } = await buy(1);
const refused = await buy(2).catch((error: unknown) => error);
console.log(\`\${order?.itemCount} sold, \${refused instanceof RefusedError ? left(refused.refusal) : "?"} left\`);
transport.close();
`;

beforeAll(async () => {
  folder = await createTemporaryFolder();
  const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: project });
  const installed = join(folder, "node_modules", "holdfast");
  await mkdir(installed, { recursive: true });
  await run("tar", [
    "-xzf",
    join(folder, stdout.trim().split("\n").at(-1) ?? ""),
    "--strip-components=1",
    "-C",
    installed,
  ]);
  await symlink(tools, join(installed, "node_modules"));
  await mkdir(join(folder, "node_modules", "@types"));
  await symlink(join(tools, "@types", "node"), join(folder, "node_modules", "@types", "node"));
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
  await writeFile(join(folder, "program.ts"), program);
}, 120_000);

afterAll(() => rm(folder, { recursive: true, force: true }));

it("another package compiles against the packed client", async () => {
  const flags = [
    "--noEmit",
    "--strict",
    "--module",
    "nodenext",
    "--target",
    "es2024",
    "--types",
    "node",
    "--skipLibCheck",
  ];
  await run(join(tools, ".bin", "tsc"), [...flags, "program.ts"], { cwd: folder });
}, 60_000);

it("another package buys with the packed client", async () => {
  const shopId = await createShop(holdfast.grpc, { stock: { ps5: 2 } });
  const { stdout } = await run(process.execPath, ["program.ts", holdfast.grpcAddress, shopId], { cwd: folder });
  expect(stdout).toBe("1 sold, 1 left\n");
}, 60_000);
