import fc from "fast-check";
import { mainUsers, type Picks, skus } from "./choose.ts";
import { bodyOf, type Call } from "./decide.ts";
import type { Plain } from "./plain.ts";
import { templates } from "./templates.ts";

/**
 * What a run does, as data: numbers that are bound to ids and amounts only when their turn comes, by what the model's shop
 * holds then. So any part of a run is a run, and a failure can be made smaller by leaving steps out.
 */
export type Step =
  | { readonly kind: "calls"; readonly calls: readonly CallSpec[] }
  | { readonly kind: "clock"; readonly ms: number }
  | { readonly kind: "check" }
  | { readonly kind: "rebuild" }
  | { readonly kind: "verify" }
  | { readonly kind: "watch"; readonly from: number; readonly how: "resume" | "list" | "fork" | "take over" }
  | {
      readonly kind: "consumer";
      readonly consumer: number;
      readonly from: number;
      readonly how: "ack" | "ahead" | "read";
    };

/** A call to come. */
export interface CallSpec {
  readonly bind: Bound;
  readonly door: "grpc" | "http";
  readonly id: "new" | "none" | "header" | "stolen" | "conflict" | "retried";
  /** The same call is sent on the other door too, at the same time. */
  readonly twice: boolean;
  readonly toNobody: boolean;
}

/** How a call is bound. */
export type Bound =
  | { readonly kind: "fresh"; readonly rpc: string; readonly picks: Picks; readonly bad: number | undefined }
  | { readonly kind: "again"; readonly pick: number; readonly isNewId: boolean; readonly change: number | undefined };

const pickCount = 12;
const pickArbitrary = fc.nat(9999);

const freshArbitrary: fc.Arbitrary<Bound> = fc
  .tuple(
    fc.oneof(
      ...Object.entries(templates).map(([rpc, { weight }]) => ({
        weight: Math.round(weight * 10),
        arbitrary: fc.constant(rpc),
      })),
    ),
    fc.array(pickArbitrary, { minLength: pickCount, maxLength: pickCount }),
    fc.oneof({ weight: 97, arbitrary: fc.constant(undefined) }, { weight: 3, arbitrary: pickArbitrary }),
  )
  .map(([rpc, picks, bad]) => ({ kind: "fresh", rpc, picks, bad }));

const againArbitrary: fc.Arbitrary<Bound> = fc.record({
  kind: fc.constant("again" as const),
  pick: pickArbitrary,
  isNewId: fc.boolean(),
  change: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 2, arbitrary: pickArbitrary }),
});

function rarely(weight: number): fc.Arbitrary<boolean> {
  return fc.oneof({ weight: 1000 - weight, arbitrary: fc.constant(false) }, { weight, arbitrary: fc.constant(true) });
}

const callArbitrary: fc.Arbitrary<CallSpec> = fc.record({
  bind: fc.oneof({ weight: 90, arbitrary: freshArbitrary }, { weight: 10, arbitrary: againArbitrary }),
  door: fc.constantFrom("grpc", "http"),
  id: fc.oneof(
    ...(
      [
        [840, "new"],
        [80, "none"],
        [50, "header"],
        [15, "stolen"],
        [6, "conflict"],
        [9, "retried"],
      ] as const
    ).map(([weight, id]) => ({ weight, arbitrary: fc.constant(id) })),
  ),
  twice: rarely(40),
  toNobody: rarely(5),
});

const second = 1000;
const day = 86_400 * second;
const times = [
  1,
  second,
  second,
  20 * second,
  20 * second,
  61 * second,
  301 * second,
  601 * second,
  3600 * second,
  day,
  11 * day,
  31 * day,
];

/** One step of a run. */
export const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 800,
    arbitrary: fc.record({
      kind: fc.constant("calls" as const),
      calls: fc.array(callArbitrary, { minLength: 1, maxLength: 12, size: "max" }),
    }),
  },
  { weight: 130, arbitrary: fc.record({ kind: fc.constant("clock" as const), ms: fc.constantFrom(...times) }) },
  { weight: 6, arbitrary: fc.constant({ kind: "check" as const }) },
  { weight: 5, arbitrary: fc.constant({ kind: "rebuild" as const }) },
  { weight: 4, arbitrary: fc.constant({ kind: "verify" as const }) },
  {
    weight: 25,
    arbitrary: fc.record({
      kind: fc.constant("watch" as const),
      from: pickArbitrary,
      how: fc.constantFrom("resume", "list", "list", "fork", "take over"),
    }),
  },
  {
    weight: 25,
    arbitrary: fc.record({
      kind: fc.constant("consumer" as const),
      consumer: fc.nat(1),
      from: pickArbitrary,
      how: fc.constantFrom("ack", "ack", "ahead", "read"),
    }),
  },
);

/** How a run begins: something on sale and people, then stock and money. */
export function openingCalls(): readonly (readonly Call[])[] {
  const call = (rpc: string, request: Plain, index: number): Call => ({
    rpc,
    request: bodyOf(rpc, request),
    requestId: `opening-${rpc}-${index}`,
    door: index % 2 === 0 ? "grpc" : "http",
    idBy: "field",
  });
  const prices = [100, 25, 499, 1, 5];
  return [
    [
      ...skus.map((sku, index) => call("PutProduct", { sku, title: sku, price_minor: prices[index] }, index)),
      ...mainUsers.map((user_id, index) => call("CreateUser", { user_id, email: `${user_id}@example.com` }, index)),
    ],
    [
      ...skus.map((sku, index) => call("AdjustStock", { sku, delta_count: 10 + 5 * index, reason: 5 }, index)),
      ...mainUsers.map((user_id, index) => call("DepositFunds", { user_id, amount_minor: 2000 * (index + 1) }, index)),
    ],
  ];
}

/** How a run ends: with what one step each is enough for. `from` makes them differ from run to run. */
export function closingSteps(from: number): readonly Step[] {
  return [
    ...(["resume", "list", "fork", "take over"] as const).map((how) => ({ kind: "watch" as const, from, how })),
    { kind: "consumer", consumer: 9, from, how: "read" },
    { kind: "consumer", consumer: 9, from, how: "ahead" },
    { kind: "consumer", consumer: 9, from, how: "ack" },
    { kind: "consumer", consumer: 9, from, how: "read" },
    { kind: "verify" },
  ];
}
