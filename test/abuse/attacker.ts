import { answerParent } from "../../bench/child.ts";
import { createDice } from "../crash/dice.ts";
import { sendMutated } from "./mutated-requests.ts";
import { neverRead } from "./never-readers.ts";
import { resetRapidly } from "./rapid-resets.ts";
import { connectSlowly } from "./slow-connections.ts";
import type { AttackOptions, AttackResult } from "./target.ts";

/** Every kind of attack. */
const attacks = { resetRapidly, connectSlowly, neverRead, sendMutated };

export type AttackName = keyof typeof attacks;

/** An attack to be made. */
export interface AttackRequest extends Omit<AttackOptions, "dice"> {
  readonly name: AttackName;
  readonly seed: number;
}

// In a process of its own, whose garbage and whose loops do not show in what the good caller measures.
answerParent<AttackRequest>(({ name, seed, ...options }): Promise<AttackResult> => {
  return attacks[name]({ ...options, dice: createDice(seed) });
});
