/** Who calls, and what they may do: what valid credentials say, whichever kind they are of. */
export interface Identity {
  /** The caller's name. It is recorded with every commit, and it is the user that `holdfast.self` is about. */
  readonly principal: string;
  /** Ids of the shops the caller has; `*`: every shop, also those to come. */
  readonly shops: ReadonlySet<string> | "*";
  /** What the caller may do in these shops, such as `holdfast.read`. */
  readonly scopes: ReadonlySet<string>;
  /** Until when the credentials are valid, in ms since the epoch. */
  readonly expiresMs: number;
}

/** What Holdfast itself commits under: a caller of that name could pass for it. */
export const ownPrincipals = { seed: "seed", payments: "payment-worker" } as const;

const maxPrincipalLength = 256;

/**
 * Whether a name can be a principal. It goes into the log, and PostgreSQL refuses a commit with a control character or half a
 * surrogate pair in it: one such caller would fence a shop. Characters that only change how others are shown (\p{Cf}) could make one name
 * look like another.
 */
export function isPrincipal(name: unknown): name is string {
  return (
    typeof name === "string" &&
    name.length > 0 &&
    name.length <= maxPrincipalLength &&
    name.isWellFormed() &&
    !/[\p{Cc}\p{Cf}]/u.test(name) &&
    !(Object.values(ownPrincipals) as string[]).includes(name)
  );
}

/** Shops as a claim or a setting gives them: `*` or a list of ids. Anything else gives none. */
export function shopsOf(value: unknown): Identity["shops"] {
  const list = isTexts(value) ? value : [];
  return value === "*" || list.includes("*") ? "*" : new Set(list);
}

/** Scopes as a claim or a setting gives them: separated by spaces, or a list. Anything else gives none. */
export function scopesOf(value: unknown): Identity["scopes"] {
  return new Set(typeof value === "string" ? value.split(" ") : isTexts(value) ? value : []);
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}
