import { Refusal } from "../refusal.ts";
import { createFlowLimit, type FlowLimit } from "./flow-limit.ts";

/**
 * Who may go on to Redis, of all calls of a process. As many as the flow limit says are there at a time; the others wait in the
 * line of their shop, and who does not fit in is refused at once, before anything was done.
 *
 * Invariants:
 * - there are never more than `maxInFlight`, but while a store is away, when all are let in to hear so; what the flow limit
 *   leaves of these places is for shops with less than their share;
 * - such a shop has nobody in line unless all of these places are taken: however many calls others make, its own enter at once;
 * - a place that becomes free goes to later steps of purchases first, and from shop to shop in turn;
 * - who is in line enters, sooner or later, also when it has ended meanwhile: it then sees that, and leaves.
 */
export class Admission {
  readonly #limit: FlowLimit;
  readonly #maxInFlight: number;
  readonly #maxWaiting: number;
  /** Gates with somebody in line, the next one first. */
  readonly #lines = new Set<Gate>();
  /** Of these, the ones that had less than their share when all places were taken: they are next. */
  readonly #keptOut = new Set<Gate>();
  #inFlightCount = 0;
  /** Gates with somebody in flight. */
  #activeCount = 0;
  #waitingCount = 0;
  #shedCount = 0;

  constructor({ maxInFlight, maxWaiting }: AdmissionOptions) {
    this.#limit = createFlowLimit({ maxCount: maxInFlight - Math.floor(maxInFlight * calmPlaces) });
    this.#maxInFlight = maxInFlight;
    this.#maxWaiting = maxWaiting;
  }

  /** Calls that are let through at a time, as of now. */
  get limitCount(): number {
    return Math.floor(this.#limit.current);
  }

  /** Calls that were let through and are not over. */
  get inFlightCount(): number {
    return this.#inFlightCount;
  }

  /** Calls that wait for their turn. */
  get waitingCount(): number {
    return this.#waitingCount;
  }

  /** Calls that were refused since the start. */
  get shedCount(): number {
    return this.#shedCount;
  }

  /** The way in of one shop. */
  openGate(): Gate {
    return new Gate(this);
  }

  /** Whether a shop with so many calls in flight may have one more. */
  hasPlace(ofShop: number): boolean {
    return (
      this.#inFlightCount < this.#limit.current || (this.#inFlightCount < this.#maxInFlight && this.hasShare(ofShop))
    );
  }

  /** Whether so many calls are less than a shop's share. */
  hasShare(ofShop: number): boolean {
    return ofShop < calmCount || ofShop * Math.max(1, this.#activeCount) < this.#limit.current;
  }

  /** Throws OVERLOADED when so many are in a line already. */
  refuseAbove(waitingCount: number): void {
    if (waitingCount >= this.#maxWaiting) {
      this.#shedCount += 1;
      throw overloaded("too many calls of this shop are waiting");
    }
  }

  /** Somebody waits at a gate. */
  lineUp(gate: Gate): void {
    this.#lines.add(gate);
    if (gate.hasShare) {
      this.#keptOut.add(gate);
    }
    this.#waitingCount += 1;
  }

  /** One of those who waited does not any more. */
  waited(): void {
    this.#waitingCount -= 1;
  }

  /** A call of a gate begins; `isFirst`: the gate has no other. */
  begin(isFirst: boolean): void {
    this.#inFlightCount += 1;
    this.#activeCount += isFirst ? 1 : 0;
  }

  /** A call of a gate is over; `isLast`: the gate has no other. */
  end(gate: Gate, isLast: boolean): void {
    this.#inFlightCount -= 1;
    this.#activeCount -= isLast ? 1 : 0;
    if (this.#lines.has(gate) && gate.hasShare) {
      this.#keptOut.add(gate);
    }
    for (const next of this.#keptOut) {
      if (this.#inFlightCount >= this.#maxInFlight) {
        return;
      }
      this.#keptOut.delete(next);
      if (next.hasShare) {
        this.#letIn(next);
        if (this.#lines.has(next)) {
          this.#keptOut.add(next);
        }
      }
    }
    for (const next of this.#lines) {
      if (this.#inFlightCount >= this.#limit.current) {
        break;
      }
      this.#letIn(next);
    }
  }

  /** Learns from a call how long script and flush took; it was never one of more than so many of its shop. */
  learn(tookMs: number, ofShop: number): void {
    this.#limit.ended(tookMs, this.#inFlightCount, ofShop <= calmCount);
  }

  /** Lets the next one in, and puts the gate behind the others. */
  #letIn(gate: Gate): void {
    this.#lines.delete(gate);
    if (gate.letIn()) {
      this.#lines.add(gate);
    }
  }
}

/** What an admission needs. */
export interface AdmissionOptions {
  /** Calls that are let through at a time, at most. A quarter of these places is for shops with few of them. */
  readonly maxInFlight: number;
  /** Calls that wait in the line of a shop, at most. Later steps of purchases have a line of their own, as long. */
  readonly maxWaiting: number;
}

/** So few calls at a time are a calm shop's. */
const calmCount = 4;
/** What part of all places busy shops leave to those with less than their share. */
const calmPlaces = 1 / 4;
/** When to come back, in milliseconds. Spread, so that those who are refused at once do not come back at once. */
const retryMs = { least: 100, most: 500 };

/** The refusal of a call that is one too many. */
export function overloaded(message: string): Refusal {
  const spreadMs = Math.random() * (retryMs.most - retryMs.least);
  return new Refusal("OVERLOADED", `${message}; nothing was changed`, { retryMs: retryMs.least + spreadMs });
}

/** The way in of one shop. */
export class Gate {
  readonly #admission: Admission;
  readonly #laterSteps: (() => void)[] = [];
  readonly #others: (() => void)[] = [];
  #inFlightCount = 0;

  constructor(admission: Admission) {
    this.#admission = admission;
  }

  /** Resolves when a call may go on, undefined: it may at once; it then has to `leave`. Throws OVERLOADED. */
  enter(isLaterStep: boolean): Promise<void> | undefined {
    if (!this.#hasLine && this.#admission.hasPlace(this.#inFlightCount)) {
      this.#begin();
      return undefined;
    }
    this.refuseFull(isLaterStep);
    this.#admission.lineUp(this);
    return new Promise((resolve) => this.#lineOf(isLaterStep).push(resolve));
  }

  /** Throws OVERLOADED when a call could not even wait: asked before anything is done for it, so that this is cheap. */
  refuseFull(isLaterStep: boolean): void {
    this.#admission.refuseAbove(this.#lineOf(isLaterStep).length);
  }

  /** A call that had entered is over. */
  leave(): void {
    this.#inFlightCount -= 1;
    this.#admission.end(this, this.#inFlightCount === 0);
  }

  /** Tells how long the script and the flush of a call took, in milliseconds; it was one of so many when it entered. */
  took(ms: number, enteredAsCount: number): void {
    // Both: of many that come at once the first see few others, of many that end at once the last.
    this.#admission.learn(ms, Math.max(enteredAsCount, this.#inFlightCount));
  }

  /** Lets the next one in; whether there are more. */
  letIn(): boolean {
    const enter = this.#laterSteps.shift() ?? this.#others.shift();
    if (enter !== undefined) {
      this.#admission.waited();
      this.#begin();
      enter();
    }
    return this.#hasLine;
  }

  /** Lets everybody in who is in line: there is nothing to wait for any more, as each will see. */
  letAllIn(): void {
    while (this.letIn()) {
      // the next one
    }
  }

  /** Calls that have entered and are not over. */
  get inFlightCount(): number {
    return this.#inFlightCount;
  }

  get hasShare(): boolean {
    return this.#admission.hasShare(this.#inFlightCount);
  }

  #lineOf(isLaterStep: boolean): (() => void)[] {
    return isLaterStep ? this.#laterSteps : this.#others;
  }

  get #hasLine(): boolean {
    return this.#laterSteps.length + this.#others.length > 0;
  }

  #begin(): void {
    this.#inFlightCount += 1;
    this.#admission.begin(this.#inFlightCount === 1);
  }
}

/** The place of one call: it enters once, however often its script runs, and leaves when it is over. */
export class Place {
  readonly #gate: Gate;
  readonly #isLaterStep: boolean;
  #isIn = false;
  #enteredAsCount = 0;

  /** `isLaterStep`: of a purchase that has begun, which is worth more than one that has not. */
  constructor(gate: Gate, isLaterStep: boolean) {
    this.#gate = gate;
    this.#isLaterStep = isLaterStep;
  }

  /** As Gate; undefined also for a call that is in: what it did may have taken effect, and nobody may refuse it now. */
  enter(): Promise<void> | undefined {
    if (this.#isIn) {
      return undefined;
    }
    const turn = this.#gate.enter(this.#isLaterStep);
    this.#isIn = true;
    this.#enteredAsCount = turn === undefined ? this.#gate.inFlightCount : Number.POSITIVE_INFINITY;
    return turn;
  }

  /** Tells how long the script and the flush took, in milliseconds. */
  took(ms: number): void {
    this.#gate.took(ms, this.#enteredAsCount);
  }

  /** Gives the place back, if there is one. */
  leave(): void {
    if (this.#isIn) {
      this.#isIn = false;
      this.#gate.leave();
    }
  }
}
