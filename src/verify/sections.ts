import { isRenewed } from "./fold/subscriptions.ts";
import { type Model, packLines, type Sku, type Subscription, type User } from "./model.ts";

/** A field of a hash, or a member of a sorted set, that the model expects. */
export interface Expected {
  readonly field: string;
  /** Undefined: it must not be there. */
  readonly value: string | undefined;
  readonly kind: string;
  readonly subject: string;
  /** The commit that last set it. */
  readonly position: number;
  /** Whether another value, or none, means the same. */
  readonly accepts?: (found: string | undefined) => boolean;
}

/** One key of a shop in Redis, and what has to stand in it. */
export interface Section {
  /** The key, by the name that scripts use. */
  readonly name: string;
  /** The ids of all things that have something in it. */
  ids(model: Model): string[];
  /** What a thing has in it; nothing for an unknown id. */
  expected(model: Model, id: string): readonly Expected[];
  /** The thing that a field belongs to, and how to tell of a field that should not be there. */
  owner(field: string): Owner;
  /** Whether a field says nothing that the log knows of. */
  readonly ignores?: (model: Model, field: string) => boolean;
}

/** Whose field it is. */
export interface Owner {
  readonly id: string;
  readonly kind: string;
  readonly subject: string;
}

/** All keys whose content follows from the model alone. */
export const sections: readonly Section[] = [
  {
    name: "stock",
    ids: ({ skus }) => [...skus.keys()],
    expected: ({ skus }, id) => stockFields(skus.get(id)),
    owner: (field) => ownerOf(field, "sku", "STOCK_LEVEL"),
    // The first limit of a product that was sold is being loaded.
    ignores: ({ skus }, field) => field.endsWith(":loading") && skus.has(idOf(field)),
  },
  {
    name: "holds",
    ids: ({ openHolds }) => [...openHolds],
    expected: ({ holds }, id) => {
      const hold = holds.get(id);
      if (hold?.open === undefined) {
        return [];
      }
      const { userId, expireMs, createMs, lines } = hold.open;
      return fieldsOf(`hold:${id}`, "HOLD", hold.position, {
        [`${id}:user`]: userId,
        [`${id}:expire`]: expireMs,
        [`${id}:created`]: `${hold.createPosition} ${createMs}`,
        [`${id}:lines`]: packLines(lines),
      });
    },
    owner: (field) => ownerOf(field, "hold", "HOLD"),
  },
  {
    name: "orders",
    ids: ({ openOrders }) => [...openOrders],
    expected: ({ orders }, id) => {
      const order = orders.get(id);
      if (order?.open === undefined) {
        return [];
      }
      const { expireMs, createMs, lines, holdId } = order.open;
      return fieldsOf(`order:${id}`, "ORDER", order.position, {
        [`${id}:user`]: order.userId,
        [`${id}:expire`]: expireMs ?? "",
        [`${id}:created`]: `${order.createPosition} ${createMs}`,
        [`${id}:lines`]: packLines(lines),
        [`${id}:terms`]: `${order.method} ${holdId}`,
      });
    },
    owner: (field) => ownerOf(field, "order", "ORDER"),
  },
  {
    name: "due",
    ids: dueIds,
    expected: (model, id) => {
      const due = dueOf(model, id);
      return due === undefined ? [] : fieldsOf(due.subject, "DUE", due.position, { [id]: due.expireMs });
    },
    owner: (member) => ({ id: member, kind: "DUE", subject: dueSubject(member) }),
  },
  {
    name: "due_skus",
    ids: dueIds,
    expected: (model, id) => {
      const due = dueOf(model, id);
      const skus = new Set(due?.lines.map((line) => line.sku));
      return [...skus].flatMap((sku) =>
        fieldsOf(due?.subject ?? "", "DUE", due?.position ?? 0, {
          [`${sku}:${String(due?.expireMs).padStart(16, "0")}:${id}`]: 0,
        }),
      );
    },
    owner: (member) => {
      const id = member.slice(member.lastIndexOf(":") + 1);
      return { id, kind: "DUE", subject: dueSubject(id) };
    },
  },
  {
    name: "users",
    ids: ({ users }) => [...users.keys()],
    expected: ({ users }, id) => userFields(users.get(id)),
    owner: (field) => ownerOf(field, "user", "USER"),
    // Compared with the users of Postgres: the log has no e-mail.
    ignores: ({ users }, field) => field.endsWith(":email") && users.has(idOf(field)),
  },
  {
    name: "codes",
    ids: ({ codes }) => [...codes.keys()],
    expected: ({ codes, users }, code) => {
      const owner = codes.get(code);
      const position = users.get(owner ?? "")?.createPosition ?? 0;
      return owner === undefined ? [] : fieldsOf(`user:${owner}`, "REFERRAL_CODE", position, { [code]: owner });
    },
    owner: (code) => ({ id: code, kind: "REFERRAL_CODE", subject: `code:${code}` }),
  },
  {
    name: "limits",
    ids: ({ skus }) =>
      [...skus.values()].flatMap(({ sku, tracked, users }) =>
        tracked ? [...users.keys()].map((userId) => `${userId}:${sku}`) : [],
      ),
    expected: ({ skus }, id) => {
      const [userId = "", sku = ""] = id.split(":");
      const known = skus.get(sku);
      const count = known?.users.get(userId);
      return count === undefined || known === undefined || !known.tracked
        ? []
        : fieldsOf(`user:${userId}`, "LIMIT", known.levelsPosition, { [id]: count });
    },
    owner: (field) => ({ id: field, kind: "LIMIT", subject: `user:${idOf(field)}` }),
    // Loaded before the product's first limit, which then may not have come.
    ignores: ({ skus }, field) => skus.get(field.slice(field.indexOf(":") + 1))?.tracked === false,
  },
  {
    name: "tiers",
    ids: ({ tiers }) => [...tiers.keys()],
    expected: ({ tiers }, id) => {
      const tier = tiers.get(id);
      const terms = `${tier?.price} ${tier?.projects} ${tier?.storageMb} ${tier?.apiCalls}`;
      return tier === undefined ? [] : fieldsOf(`tier:${id}`, "TIER", tier.position, { [`${id}:terms`]: terms });
    },
    owner: (field) => ownerOf(field, "tier", "TIER"),
  },
  {
    name: "renewals",
    ids: ({ users }) => [...users.values()].filter(isRenewedUser).map((user) => user.id),
    expected: ({ users }, id) => {
      const user = users.get(id);
      return user === undefined || !isRenewedUser(user)
        ? []
        : fieldsOf(`user:${id}`, "SUBSCRIPTION", user.subscription.position, { [id]: user.subscription.endMs });
    },
    owner: (member) => ({ id: member, kind: "SUBSCRIPTION", subject: `user:${member}` }),
  },
  {
    name: "stats",
    ids: () => ["shop"],
    expected: (model) => statsFields(model),
    owner: (field) => ({ id: "shop", kind: "STATS", subject: `stats:${field}` }),
    ignores: ({ tiers }, field) => field.startsWith("tier:") && tiers.has(field.slice("tier:".length)),
  },
];

function idOf(field: string): string {
  return field.slice(0, Math.max(0, field.lastIndexOf(":")));
}

function ownerOf(field: string, prefix: string, kind: string): Owner {
  const id = idOf(field);
  return { id, kind, subject: `${prefix}:${id === "" ? field : id}` };
}

function fieldsOf(
  subject: string,
  kind: string,
  position: number,
  values: Readonly<Record<string, string | number>>,
): Expected[] {
  return Object.entries(values).map(([field, value]) => ({ field, value: String(value), kind, subject, position }));
}

function stockFields(sku: Sku | undefined): Expected[] {
  if (sku === undefined) {
    return [];
  }
  const { sku: id, saleStart, saleEnd, withdrawn, tracked, limit } = sku;
  const subject = `sku:${id}`;
  const terms = (isTracked: boolean) => `${limit} ${isTracked ? 1 : 0} ${saleStart} ${saleEnd} ${withdrawn ? 1 : 0}`;
  const isPlain = !tracked && saleStart === 0 && saleEnd === 0 && !withdrawn;
  const sales = `${sku.orders} ${sku.units} ${sku.revenue}`;
  return [
    ...fieldsOf(subject, "STOCK_LEVEL", sku.levelsPosition, {
      [`${id}:available`]: sku.available,
      [`${id}:held`]: sku.held,
      [`${id}:sold`]: sku.sold,
    }),
    ...fieldsOf(subject, "PRODUCT", sku.position, { [`${id}:price`]: sku.price, [`${id}:created`]: sku.createMs }),
    {
      field: `${id}:terms`,
      value: isPlain ? "" : terms(tracked),
      kind: "PRODUCT",
      subject,
      position: sku.position,
      // The counts for a first limit are loaded, and the limit itself has not come yet.
      accepts: (found) => !tracked && found === terms(true),
    },
    {
      field: `${id}:sales`,
      value: sales,
      kind: "SKU_STATS",
      subject,
      position: sku.levelsPosition,
      accepts: (found) => found === undefined && sales === "0 0 0",
    },
  ];
}

function userFields(user: User | undefined): Expected[] {
  if (user === undefined) {
    return [];
  }
  const { id, subscription } = user;
  const subject = `user:${id}`;
  const fields: Expected[] = [
    {
      field: `${id}:balance`,
      value: `${user.balance}`,
      kind: "WALLET_BALANCE",
      subject,
      position: user.position,
      accepts: (found) => found === undefined && user.balance === 0,
    },
    ...fieldsOf(subject, "WALLET_BALANCE", user.position, { [`${id}:credits`]: user.credits }),
    ...fieldsOf(subject, "USER", user.position, {
      [`${id}:profile`]: `${user.createPosition} ${user.createMs} ${user.code} ${user.referredBy} ${user.referralCount}`,
      ...(user.orders > 0 && { [`${id}:purchases`]: `${user.orders} ${user.lifetime}` }),
    }),
  ];
  const position = subscription?.position ?? user.createPosition;
  const value = subscription === undefined ? undefined : subscriptionText(subscription);
  return [...fields, { field: `${id}:sub`, value, kind: "SUBSCRIPTION", subject, position }];
}

function subscriptionText({ tier, price, startMs, endMs, scheduled, position, updateMs }: Subscription): string {
  return `${tier} ${price} ${startMs} ${endMs} ${scheduled} ${position} ${updateMs}`;
}

function isRenewedUser(user: User): user is User & { subscription: Subscription } {
  return user.subscription !== undefined && isRenewed(user.subscription);
}

function statsFields({ stats, users, orders, openOrders, position }: Model): Expected[] {
  const pending = [...openOrders].reduce((sum, id) => sum + (orders.get(id)?.amount ?? 0), 0);
  const values: [string, number][] = [
    ["orders", stats.orders],
    ["items", stats.items],
    ["revenue", stats.revenue],
    ["pending", pending],
    ["refunded", stats.refunded],
    ["upgrade_credits", stats.upgradeCredits],
    ["downgrade_credits", stats.downgradeCredits],
    ["users", users.size],
    ...[...stats.tiers].map(([tier, count]): [string, number] => [`tier:${tier}`, count]),
  ];
  return values.map(([field, count]) => ({
    field,
    value: String(count),
    kind: "STATS",
    subject: `stats:${field}`,
    position,
    accepts: (found) => found === undefined && count === 0,
  }));
}

/** What keeps stock until it is due: an open hold, or (`order/<id>`) an order that waits for its payment. */
function dueIds({ openHolds, openOrders, orders }: Model): string[] {
  const expiring = [...openOrders].filter((id) => orders.get(id)?.open?.expireMs !== undefined);
  return [...openHolds, ...expiring.map((id) => `order/${id}`)];
}

function dueOf({ holds, orders }: Model, id: string) {
  const thing = id.startsWith("order/") ? orders.get(id.slice("order/".length)) : holds.get(id);
  if (thing?.open?.expireMs === undefined) {
    return undefined;
  }
  const { expireMs, lines } = thing.open;
  return { expireMs, lines, position: thing.position, subject: dueSubject(id) };
}

function dueSubject(id: string): string {
  return id.startsWith("order/") ? `order:${id.slice("order/".length)}` : `hold:${id}`;
}
