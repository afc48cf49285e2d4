/** A change that no test can see, because the program does the same with it. */
export interface Equivalent {
  /** Path from the tree's root. */
  readonly file: string;
  /** The changed lines, as the run prints them. */
  readonly diff: string;
  readonly why: string;
}

/** Random mutants that survived and may. Everything else that survives is a missing test. */
export const equivalents: readonly Equivalent[] = [
  {
    file: "lua/include/read_tier.lua",
    diff: "- read_tiers[name] = false",
    why: "a tier that is not there is looked for again in the same run, and is still not there",
  },
  {
    file: "lua/include/read_tier.lua",
    diff: "- read_tiers[name] = known",
    why: "a tier is read again in the same run, which writes no tier before",
  },
  {
    file: "lua/include/read_buyer.lua",
    diff: "- buyers[id] = false",
    why: "a user who is not there is looked for again in the same run, and is still not there",
  },
  {
    file: "lua/include/read_product.lua",
    diff: "- products[sku] = false",
    why: "a product that is not there is looked for again in the same run, and is still not there",
  },
  {
    file: "lua/place_order.lua",
    diff: `- redis.call("HSET", orders, order_id .. ":user", user_id, order_id .. ":expire", expire_at and integer(expire_at) or "",
+ redis.call("HSET", orders, order_id .. ":user", user_id, order_id .. ":expire", expire_at or "",`,
    why: "redis.call writes an integer of 13 digits as integer() does",
  },
  {
    file: "src/shop/flusher.ts",
    diff: "- head = undefined;",
    why: "a head that is old after a failure moves nothing: the append that names it writes no row, and then it is read again",
  },
];
