import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { AdjustStockRequestSchema, PutProductRequestSchema } from "../gen/holdfast/v1/inventory_service_pb.js";
import { AdjustReason } from "../gen/holdfast/v1/resources_pb.js";
import { ownPrincipals } from "./auth/identity.ts";
import { findNearest } from "./nearest.ts";
import { findByRequestId, readCommit } from "./postgres/commits.ts";
import { findProduct } from "./postgres/inventory.ts";
import { isId } from "./shop/ids.ts";
import type { Call } from "./shop/log-entry.ts";
import type { Shops } from "./shop/shops.ts";
import { patientCaller } from "./shop/waiters.ts";
import { StartError } from "./start-error.ts";

/** A product of a seed file. */
interface SeedProduct {
  readonly sku: string;
  readonly title: string;
  readonly price_minor: number;
  readonly quantity: number;
  readonly shop_id: string;
}

/** A seed file that was read and checked. */
export interface SeedFile {
  readonly file: string;
  readonly products: readonly SeedProduct[];
}

/**
 * Puts and stocks the products of a seed file that do not exist yet; existing ones stay as they are. The stock's request
 * id is made from the SKU, so a start that was cut off between the two steps is completed by the next one, and processes
 * that start together stock once.
 */
export async function seed(shops: Shops, { file, products }: SeedFile, logger: Logger): Promise<void> {
  let madeCount = 0;
  for (const product of products) {
    if (await seedProduct(shops, product)) {
      madeCount += 1;
    }
  }
  logger.info({ file, products: products.length, made: madeCount }, "seeded");
}

const principal = ownPrincipals.seed;

async function seedProduct(shops: Shops, product: SeedProduct): Promise<boolean> {
  const { shop_id: shopId, sku, title, quantity } = product;
  const stockId = `seed.${createHash("sha256").update(sku).digest("hex").slice(0, 32)}`;
  const existing = await findProduct(shops.db, shopId, sku);
  if (existing !== undefined && (quantity === 0 || !(await isHalfSeeded(shops, shopId, existing.position, stockId)))) {
    return false;
  }
  const shop = shops.get(shopId);
  const common = { principal, caller: patientCaller };
  if (existing === undefined) {
    const message = create(PutProductRequestSchema, { shopId, sku, title, priceMinor: BigInt(product.price_minor) });
    await shop.mutate({
      ...common,
      rpc: "PutProduct",
      script: shops.scripts.putProduct,
      request: { desc: PutProductRequestSchema, message },
      requestId: "",
      args: [sku, JSON.stringify(title), product.price_minor, "", "", "", ""],
    });
  }
  if (quantity > 0) {
    const reason = AdjustReason.INITIAL;
    const message = create(AdjustStockRequestSchema, { shopId, sku, deltaCount: BigInt(quantity), reason });
    await shop.mutate({
      ...common,
      rpc: "AdjustStock",
      script: shops.scripts.adjustStock,
      request: { desc: AdjustStockRequestSchema, message },
      requestId: stockId,
      args: [sku, quantity, reason, JSON.stringify(""), ""],
    });
  }
  return true;
}

/** Whether an earlier start put this product and was cut off before it stocked it. */
async function isHalfSeeded(shops: Shops, shopId: string, position: number, stockId: string): Promise<boolean> {
  const put = await readCommit(shops.db, shopId, position);
  const isSeeded = put !== undefined && (JSON.parse(put.call) as Call).principal === principal;
  return isSeeded && (await findByRequestId(shops.db, shopId, stockId, Number.MAX_SAFE_INTEGER)) === undefined;
}

/** Reads a seed file and checks all of it; needs no server. Throws StartError. */
export async function readSeedFile(file: string): Promise<SeedFile> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new StartError(`the seed file ${file} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
  const list = (parsed as { products?: unknown } | null)?.products;
  if (!Array.isArray(list)) {
    throw new StartError(`the seed file ${file} needs {"products": [{"sku", "title", "price_minor", "quantity"}]}`);
  }
  refuseUnknownKeys(parsed as object, ["products"], file);
  return { file, products: list.map((each, index) => checkProduct(each, `${file}: products[${index}]`)) };
}

/** A key that is not read would be one that is silently left out. */
function refuseUnknownKeys(object: object, known: readonly string[], where: string): void {
  const unknown = Object.keys(object).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    const nearest = findNearest(unknown, known);
    throw new StartError(`${where}: ${JSON.stringify(unknown)} is not a key; did you mean ${nearest}?`);
  }
}

/** As the contract has it; PostgreSQL would refuse the commit of one with half a character, and the shop be fenced. */
function isTitle(title: unknown): title is string {
  return typeof title === "string" && title.isWellFormed() && !/\p{Cc}/u.test(title) && [...title].length <= 256;
}

const productKeys = ["sku", "title", "price_minor", "quantity", "shop_id"];

function checkProduct(each: unknown, where: string): SeedProduct {
  if (typeof each !== "object" || each === null || Array.isArray(each)) {
    throw new StartError(`${where}: a product is an object with ${productKeys.join(", ")}`);
  }
  refuseUnknownKeys(each, productKeys, where);
  const { sku, title = sku, price_minor, quantity = 0, shop_id = "default" } = each as Record<string, unknown>;
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!isId(sku) || !isId(shop_id) || !isTitle(title)) {
    throw new StartError(
      `${where}: sku and shop_id are ids (A-Z a-z 0-9 . _ -, at most 64), title at most 256 characters`,
    );
  }
  if (!isCount(price_minor) || !isCount(quantity)) {
    throw new StartError(`${where}: price_minor and quantity are whole numbers from 0`);
  }
  return { sku, title, price_minor, quantity, shop_id };
}
