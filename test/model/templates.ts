import {
  boundaries,
  type Chooser,
  chooseAmount,
  chooseBuyer,
  chooseHold,
  chooseId,
  chooseLines,
  chooseOrder,
  chooseSku,
  chooseText,
  chooseTier,
  chooseUser,
  extremeSku,
  isChangedSince,
  isPaid,
  isPending,
  richUser,
  skus,
  tiers,
  type World,
} from "./choose.ts";
import { lists, methods as rpcMethods } from "./decide.ts";
import type { Plain } from "./plain.ts";
import { holdStates, largest, methods, type User } from "./state.ts";

export interface Template {
  readonly weight: number;
  readonly bind: (choose: Chooser, world: World) => Plain;
}

/** The requests of every RPC that the model decides. */
export const templates: Readonly<Record<string, Template>> = {
  PutProduct: {
    weight: 5,
    bind: (choose, { now, hasExtremes }) => {
      const sku = choose.chance(3) ? "late" : choose.from(skus);
      const isExtreme = hasExtremes && sku === extremeSku;
      const limit = sku === "s2" ? choose.from([3, 5, 8, 12]) : choose.from([0, 0, 0, 40]);
      const hour = 3_600_000;
      const start = choose.from([undefined, 0, now - hour, now + 5 * 60_000]);
      const end = choose.from([undefined, 0, now + hour, now + 1, now - 1000]);
      const price = isExtreme ? choose.from(boundaries) : choose.from([1, 5, 100, 499, 0]);
      return {
        sku,
        title: chooseText(choose),
        ...(choose.chance(60) && { price_minor: price }),
        ...(choose.chance(50) && { max_per_user: limit }),
        // One product is on sale at times only; the others are there to be bought.
        ...(sku === "s3" && start !== undefined && { sale_start_time: start }),
        ...(sku === "s3" && end !== undefined && { sale_end_time: end }),
        ...(sku === "s3" ? { withdrawn: choose.chance(15) } : choose.chance(2) && { withdrawn: false }),
      };
    },
  },
  AdjustStock: {
    weight: 9,
    bind: (choose, { shop }) => {
      const sku = chooseSku(choose);
      const available = shop.products.get(sku)?.available ?? 0;
      const pick = choose.pick;
      const delta =
        sku === extremeSku
          ? choose.from([1, 20, 1e14, largest, -1e14, -largest, largest - available, 3])
          : pick < 6500
            ? choose.between(1, 25)
            : -choose.between(1, 20);
      const expected = choose.from([undefined, undefined, undefined, undefined, available, available + 1]);
      return {
        sku,
        delta_count: delta === 0 ? 1 : delta,
        reason: choose.between(1, 5),
        reference: chooseText(choose),
        ...(expected !== undefined && { expected_available_count: Math.min(expected, largest) }),
      };
    },
  },
  HoldStock: {
    weight: 14,
    bind: (choose, world) => {
      const duration = choose.from([undefined, 1, 1000, 30_000, 300_000, 86_400_000]);
      return {
        hold_id: chooseId(choose, world, "h", world.shop.holds.keys()),
        user_id: chooseBuyer(choose, world),
        lines: chooseLines(choose, world),
        ...(duration !== undefined && { hold_duration: duration }),
      };
    },
  },
  ExtendHold: {
    weight: 4,
    bind: (choose, world) => {
      const duration = choose.from([undefined, 1, 60_000, 3_600_000, 86_400_000, 86_400_000]);
      const oldest = [...world.shop.holds.values()].find(({ state }) => state === holdStates.active);
      const hold_id = choose.chance(40) && oldest !== undefined ? oldest.id : chooseHold(choose, world);
      return { hold_id, ...(duration !== undefined && { hold_duration: duration }) };
    },
  },
  ReleaseHold: { weight: 5, bind: (choose, world) => ({ hold_id: chooseHold(choose, world) }) },
  GetProduct: { weight: 1, bind: (choose) => ({ sku: chooseSku(choose) }) },
  GetStock: { weight: 2, bind: (choose) => ({ sku: chooseSku(choose) }) },
  BatchGetStock: {
    weight: 1.5,
    bind: (choose) => ({ skus: Array.from({ length: choose.between(1, 4) }, () => chooseSku(choose)) }),
  },
  GetHold: { weight: 2, bind: (choose, world) => ({ hold_id: chooseHold(choose, world) }) },
  PlaceOrder: {
    weight: 24,
    bind: (choose, world) => {
      const { wallet, external, none, gateway } = methods;
      const isFromHold = choose.chance(30);
      const holdId = isFromHold ? chooseHold(choose, world) : "";
      const holder = world.shop.holds.get(holdId)?.user ?? "";
      return {
        order_id: chooseId(choose, world, "o", world.shop.orders.keys()),
        user_id: isFromHold && choose.chance(70) ? choose.from(["", holder]) : chooseBuyer(choose, world),
        ...(isFromHold ? { hold_id: holdId } : { lines: chooseLines(choose, world) }),
        payment_method: choose.from([0, wallet, wallet, external, external, none, gateway, gateway]),
      };
    },
  },
  ConfirmOrder: {
    weight: 6,
    bind: (choose, world) => {
      const isRepeat = choose.chance(15);
      const wasConfirmed = isChangedSince(({ confirmPosition }) => confirmPosition);
      const order_id = chooseOrder(choose, world, isRepeat ? wasConfirmed : isPending);
      const told = isRepeat ? world.shop.orders.get(order_id)?.paymentReference : undefined;
      return { order_id, payment_reference: told ?? chooseText(choose) };
    },
  },
  CancelOrder: {
    weight: 4,
    bind: (choose, world) => ({ order_id: chooseOrder(choose, world, isPending), reason: chooseText(choose) }),
  },
  RefundOrder: {
    weight: 8,
    bind: (choose, world) => {
      const order_id = chooseOrder(choose, world, isPaid);
      const order = world.shop.orders.get(order_id);
      const left = (order?.amount ?? 0) - (order?.refunded ?? 0);
      const part = left > 1 ? 1 + Math.floor((left - 1) * (choose.pick / 10_000)) : 1;
      const amount = choose.from([undefined, undefined, part, part, part, left, left + 1, 1, largest]);
      const line = order?.lines[choose.pick % order.lines.length];
      const quantity = Math.min(choose.from([1, 1, line?.quantity ?? 1, (line?.quantity ?? 1) + 1]), 1_000_000);
      const how = choose.pick;
      return {
        order_id,
        ...(amount !== undefined && amount > 0 && { amount_minor: Math.min(amount, largest) }),
        reason: chooseText(choose),
        ...(how < 2500 && { restock: true }),
        ...(how > 6500 && {
          restock_lines: [{ sku: line?.sku ?? "s0", quantity }, ...(how > 9500 ? [{ sku: "s1", quantity: 1 }] : [])],
        }),
      };
    },
  },
  FulfillOrder: {
    weight: 4,
    bind: (choose, world) => {
      const isRepeat = choose.chance(15);
      const wasFulfilled = isChangedSince(({ fulfillPosition }) => fulfillPosition);
      const order_id = chooseOrder(choose, world, isRepeat ? wasFulfilled : isPaid);
      const told = isRepeat ? world.shop.orders.get(order_id)?.fulfillReference : undefined;
      return { order_id, reference: told ?? chooseText(choose) };
    },
  },
  GetOrder: { weight: 2, bind: (choose, world) => ({ order_id: chooseOrder(choose, world, () => true) }) },
  CreateUser: {
    weight: 5,
    bind: (choose, world) => {
      const users = [...world.shop.users.values()];
      const someone = choose.recent(users);
      const email = choose.from([
        "",
        `${world.fresh("Mail")}@Example.com`,
        `  ${someone?.email.toUpperCase() ?? "a@b.c"} `,
        `${world.fresh("mail")}@example.com`,
      ]);
      return {
        user_id: chooseId(choose, world, "v", world.shop.users.keys()),
        email,
        display_name: chooseText(choose),
        referral_code: choose.from(["", "", someone?.referralCode ?? "", someone?.referralCode ?? "", "no-code"]),
        own_referral_code: choose.from(["", world.fresh("code"), someone?.referralCode ?? "", ""]),
        require_referral: choose.chance(35),
      };
    },
  },
  UpdateUser: {
    weight: 3,
    bind: (choose, world) => {
      const other = choose.recent([...world.shop.users.values()]);
      const email = choose.from([
        undefined,
        "",
        `${world.fresh("new")}@example.com`,
        other?.email.toLowerCase() ?? "",
        ` ${world.fresh("Spaced")}@Example.com `,
      ]);
      return {
        user_id: chooseUser(choose, world),
        ...(email !== undefined && { email }),
        ...(choose.chance(50) && { display_name: chooseText(choose) }),
      };
    },
  },
  DepositFunds: {
    weight: 6,
    bind: (choose, world) => {
      const user_id = chooseUser(choose, world);
      return { user_id, amount_minor: chooseAmount(choose, user_id === richUser), reference: chooseText(choose) };
    },
  },
  WithdrawFunds: {
    weight: 3,
    bind: (choose, world) => {
      const user_id = chooseUser(choose, world);
      const balance = world.shop.users.get(user_id)?.balance ?? 1;
      const amount = choose.from([chooseAmount(choose, user_id === richUser), Math.max(balance, 1), balance + 1]);
      return { user_id, amount_minor: Math.min(amount, largest), reference: chooseText(choose) };
    },
  },
  GrantCredits: {
    weight: 4,
    bind: (choose, world) => {
      const user_id = chooseUser(choose, world);
      const credits =
        user_id === richUser ? choose.from([largest, 1e14, 10_000]) : choose.from([1, 3000, 5000, 20_000]);
      return { user_id, credits, reason: chooseText(choose) };
    },
  },
  GetUser: { weight: 1.5, bind: (choose, world) => ({ user_id: chooseUser(choose, world) }) },
  LookupUser: {
    weight: 1.5,
    bind: (choose, { shop }) => {
      const email = choose.recent([...shop.users.values()].map((user) => user.email).filter((each) => each !== ""));
      return { email: choose.from([email?.toUpperCase(), email, ` ${email}`, "not@there"]) ?? "nobody@there" };
    },
  },
  PutTier: {
    weight: 2,
    bind: (choose) => {
      const tier = choose.from([...tiers, "t3", "t4"]);
      const limits = {
        max_projects: choose.from(boundaries),
        max_storage_mb: 7,
        max_api_calls: choose.from(boundaries),
      };
      return {
        tier,
        ...(choose.chance(75) && { price_credits: tier === "free" ? 0 : choose.from([0, 1, 50, 2999, 1_000_000_000]) }),
        ...(choose.chance(80) && { limits }),
      };
    },
  },
  GetSubscription: { weight: 2, bind: (choose, world) => ({ user_id: chooseUser(choose, world) }) },
  PreviewTierChange: {
    weight: 5,
    bind: (choose, world) => {
      const user_id = chooseUser(choose, world);
      const tier = chooseTier(choose, world, user_id);
      return { user_id, tier, proration: choose.between(0, 2), timing: choose.from([0, 1, 1, 2]) };
    },
  },
  ChangeTier: {
    weight: 9,
    bind: (choose, world) => {
      const token = choose.chance(45) ? choose.recent([...world.quotes.keys()]) : undefined;
      if (token === undefined) {
        const user_id = chooseUser(choose, world);
        const tier = chooseTier(choose, world, user_id);
        return { user_id, tier, proration: choose.between(0, 2), timing: choose.from([0, 1, 1, 2]) };
      }
      const quote = world.quotes.get(token);
      const middle = Math.floor(token.length / 2);
      const forged = `${token.slice(0, middle)}${token[middle] === "A" ? "B" : "A"}${token.slice(middle + 1)}`;
      const pick = choose.pick;
      return {
        user_id: choose.chance(92) ? quote?.user : chooseUser(choose, world),
        quote_token: choose.chance(95) ? token : forged,
        ...(pick < 1500 && { tier: quote?.tier, timing: quote?.timing }),
        ...(pick > 9300 && { proration: 3 - (quote?.proration ?? 1) }),
      };
    },
  },
  CancelScheduledChange: {
    weight: 3,
    bind: (choose, { shop }) => {
      const users: User[] = [...shop.users.values()];
      const scheduled = users.filter(({ subscription }) => subscription.scheduledTier !== "");
      return { user_id: choose.recent(choose.chance(70) && scheduled.length > 0 ? scheduled : users)?.id ?? "nobody" };
    },
  },
  CreateShop: { weight: 1.2, bind: (choose) => ({ currency_code: choose.from(["USD", "EUR"]) }) },
  GetShop: { weight: 1, bind: () => ({}) },
  GetShopStats: { weight: 1, bind: () => ({}) },
  ...Object.fromEntries(
    Object.keys(lists).map((rpc): [string, Template] => [
      rpc,
      {
        weight: 0.7,
        bind: (choose, world) => {
          const names = (rpcMethods.get(rpc)?.method.input.fields ?? []).map(({ name }) => name);
          const isOfUsers = ["ListWalletEntries", "ListTierChanges"].includes(rpc);
          const foreign = choose.recent(world.tokens.filter((each) => each.rpc !== rpc));
          return {
            ...(names.includes("user_id") && {
              user_id: isOfUsers ? chooseUser(choose, world) : chooseBuyer(choose, world),
            }),
            ...(names.includes("state") && { state: choose.from([0, 0, 1, 2, 3, 4, 5]) }),
            page_size: choose.from([0, 1, 2, 7, 1000]),
            ...(foreign !== undefined && choose.chance(15) && { page_token: foreign.token }),
          };
        },
      },
    ]),
  ),
};
