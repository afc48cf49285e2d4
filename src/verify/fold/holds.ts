import type { HoldEvent, Line, StockEvent } from "../events.ts";
import { digestOf, holdFields } from "../model.ts";
import { type At, expect, type Folds } from "./at.ts";
import { countUnits, expectStocks, moveStock, skusOf } from "./stock.ts";

/** Values of HoldState. */
const held = { active: 1, committed: 2, released: 3, expired: 4 } as const;

/** Holds, from when they are made to their one end. */
export const holdFolds: Folds<"stock_held" | "hold_extended" | "hold_released" | "hold_expired" | "hold_committed"> = {
  stock_held: (at, { hold, stocks }) => {
    expectNewHold(at, hold);
    moveStock(at, hold.lines, { available: -1, held: 1 });
    countUnits(at, hold.user_id, hold.lines, 1);
    expectStocks(at, skusOf(hold.lines), stocks);
  },
  hold_extended: (at, { hold }) => {
    const before = at.model.holds.get(hold.hold_id)?.open;
    changeHold(at, hold, held.active, Math.max(before?.expireMs ?? 0, hold.expire_time));
  },
  hold_released: (at, { hold, stocks }) => endHold(at, hold, stocks, held.released),
  hold_expired: (at, { hold, stocks }) => {
    const subject = `hold:${hold.hold_id}`;
    expect(at, subject, { due: true }, { due: hold.expire_time <= at.entry.timeMs });
    endHold(at, hold, stocks, held.expired);
  },
  hold_committed: (at, { hold }) => {
    const lines = at.model.holds.get(hold.hold_id)?.open?.lines ?? hold.lines;
    changeHold(at, hold, held.committed, undefined);
    countUnits(at, hold.user_id, hold.lines, -1);
    at.committed = { holdId: hold.hold_id, orderId: hold.order_id ?? "", lines };
  },
};

function expectNewHold(at: At, hold: HoldEvent): void {
  const subject = `hold:${hold.hold_id}`;
  expect(
    at,
    subject,
    {
      used_before: false,
      state: held.active,
      order_id: "",
      prices: pricesOf(at, hold.lines),
      create_time: at.entry.timeMs,
      create_position: at.entry.position,
      position: at.entry.position,
      known_user: true,
    },
    {
      used_before: at.model.holds.has(hold.hold_id),
      state: hold.state,
      order_id: hold.order_id ?? "",
      prices: hold.lines.map((line) => line.price_minor).join(" "),
      create_time: hold.create_time,
      create_position: hold.create_position,
      position: hold.position,
      known_user: hold.user_id === "" || at.model.users.has(hold.user_id),
    },
  );
  at.model.holds.set(hold.hold_id, {
    state: hold.state,
    createPosition: hold.create_position,
    position: hold.position,
    digest: digestOf(holdFields(hold)),
    open: {
      userId: hold.user_id,
      lines: hold.lines,
      createMs: hold.create_time,
      expireMs: hold.expire_time,
    },
  });
  at.model.openHolds.add(hold.hold_id);
}

/** The prices of some lines as the products have them. */
export function pricesOf(at: At, lines: readonly Line[]): string {
  return lines.map(({ sku }) => at.model.skus.get(sku)?.price ?? "unknown").join(" ");
}

/** An event about a hold that has to be open; the hold goes on, or ends. `expireMs` undefined: unchanged. */
function changeHold(at: At, hold: HoldEvent, to: number, expireMs: number | undefined): void {
  const known = at.model.holds.get(hold.hold_id);
  const open = known?.open;
  const expected = {
    was: held.active,
    ...holdFields({
      ...hold,
      user_id: open?.userId ?? hold.user_id,
      lines: open?.lines ?? hold.lines,
      create_time: open?.createMs ?? hold.create_time,
      expire_time: expireMs ?? open?.expireMs ?? hold.expire_time,
      create_position: known?.createPosition ?? hold.create_position,
      state: to,
      order_id: to === held.committed ? (hold.order_id ?? "") : "",
      position: at.entry.position,
    }),
  };
  expect(at, `hold:${hold.hold_id}`, expected, { was: known?.state ?? "never held", ...holdFields(hold) });
  if (to !== held.active) {
    at.model.openHolds.delete(hold.hold_id);
  }
  at.model.holds.set(hold.hold_id, {
    state: hold.state,
    createPosition: hold.create_position,
    position: hold.position,
    digest: digestOf(holdFields(hold)),
    open: to === held.active && open !== undefined ? { ...open, expireMs: hold.expire_time } : undefined,
  });
}

function endHold(at: At, hold: HoldEvent, stocks: readonly StockEvent[], to: number): void {
  changeHold(at, hold, to, undefined);
  moveStock(at, hold.lines, { held: -1, available: 1 });
  countUnits(at, hold.user_id, hold.lines, -1);
  expectStocks(at, skusOf(hold.lines), stocks);
}
