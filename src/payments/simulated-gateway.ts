import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type Charge, type ChargeOutcome, chargeKey, OutcomeUnknown, type PaymentGateway } from "./gateway.ts";

/** How the simulated gateway behaves. */
export interface SimulatedGatewayOptions {
  /** How long an answer takes, in milliseconds. Default 20. */
  readonly latencyMs?: number;
  /** The share of orders whose charge is declined, 0 to 1. Default 0. */
  readonly declineRate?: number;
  /** The share of attempts that stay without an answer, 0 to 1. Default 0. */
  readonly timeoutRate?: number;
}

/**
 * A gateway that moves no money. What becomes of a charge follows from its key alone, so it is the same after a restart
 * and in every process; which attempts stay without an answer is chance.
 */
export function createSimulatedGateway(options: SimulatedGatewayOptions = {}): PaymentGateway {
  const { latencyMs = 20, declineRate = 0, timeoutRate = 0 } = options;
  const answer = async (signal: AbortSignal): Promise<void> => {
    if (Math.random() < timeoutRate) {
      await aborted(signal);
    }
    await sleep(latencyMs);
  };
  return {
    charge: async (charge, signal) => {
      await answer(signal);
      return decide(charge, declineRate);
    },
    refund: async ({ key }, signal) => {
      await answer(signal);
      return `sim_re_${digest(key).toString("hex", 0, 12)}`;
    },
  };
}

function decide(charge: Charge, declineRate: number): ChargeOutcome {
  const hash = digest(chargeKey(charge));
  return hash.readUInt32BE(0) / 2 ** 32 < declineRate
    ? { outcome: "declined", reason: "simulated" }
    : { outcome: "charged", chargeId: `sim_ch_${hash.toString("hex", 4, 16)}` };
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** Rejects when nobody waits any more. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = (): void => reject(new OutcomeUnknown("unavailable", "the simulated gateway does not answer"));
    signal.addEventListener("abort", fail, { once: true });
    if (signal.aborted) fail();
  });
}
