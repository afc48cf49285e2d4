import { chooseCalls } from "../chaos/callers/choose-call.ts";
import { Random } from "../chaos/callers/random.ts";
import { View } from "../chaos/callers/view.ts";
import { openingCalls } from "../model/commands.ts";
import type { History } from "./history.ts";
import { randomDuration, SimulatedShop } from "./simulated-shop.ts";

/** A right history of so many calls that overlap, from a seed. */
export function randomHistory(seed: number, callCount: number): History {
  const random = new Random(seed);
  const shop = new SimulatedShop();
  const view = new View("simulated", () => shop.now);
  const send = (call: Parameters<SimulatedShop["send"]>[0], ms: number): void => {
    view.sent(call);
    const { outcome } = shop.send(call, ms, randomDuration(random));
    if (outcome?.kind === "answered") view.answered(call, outcome);
  };
  for (const call of openingCalls().flat()) send(call, 100);
  while (shop.calls.length < callCount) {
    for (const call of chooseCalls(random, view)) send(call, random.below(8));
    if (random.chance(5)) shop.charge();
  }
  return shop.history;
}
