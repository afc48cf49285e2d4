/**
 * Every step of Holdfast at which a process may die and leave others something to mend: what awaits a store or a gateway,
 * and the moments at which an answer leaves. Each has a point before and one after it. In production nothing happens there;
 * `npm run crash` ends the process at each of them and checks what is left.
 */
export const crashSteps = [
  "start: migrate",
  "start: load functions",
  "start: make default shop",
  "start: seed",

  "call",
  "handler",
  "mutation: open",
  "mutation: read record",
  "mutation: run script",
  "mutation: become durable",
  "mutation: look up",
  "mutation: load first",
  "mutation: read commit",
  "read: open",
  "read: run script",
  "read: end what is due",
  "read: become durable",
  "read: Postgres",
  "read alone: run script",
  "change user: read",
  "create shop: insert",
  "create shop: read back",
  "limits: count",
  "limits: load",
  "expire: run script",
  "renew: run script",

  "flush: connect",
  "flush: read head",
  "flush: look at log",
  "flush: append",
  "flush: release",
  "flush: trim",
  "flush: open",

  "open: watch others",
  "open: lock",
  "open: look",
  "open: raise epoch",
  "open: commit",
  "open: keep",
  "open: finish",
  "rebuild: ask for memory",
  "rebuild: lock again",
  "rebuild: look back",
  "rebuild: read lost",
  "rebuild: forget",
  "rebuild: count",
  "rebuild: load",
  "rebuild: read log",
  "rebuild: drain log",
  "rebuild: accept loss",
  "rebuild: set epoch",

  "sweep: connect",
  "sweep: list shops",
  "sweep: list renewals",
  "sweep: peek",
  "sweep: trim",
  "sweep: flush",
  "sweep: flush fenced",
  "sweep: expire",
  "sweep: flush expired",
  "sweep: renew",
  "sweep: flush renewed",

  "payments: connect",
  "payments: lead",
  "payments: list",
  "payments: charge",
  "payments: settle charge",
  "payments: refund",
  "payments: settle refund",

  "consumer: take",
  "consumer: acknowledge",
  "watch: read commits",
] as const;

/** A step that has crash points around it. */
export type CrashStep = (typeof crashSteps)[number];

/** A place at which a test may end this process. */
export type CrashPoint = `${"before" | "after"} ${CrashStep}`;

let reached: ((point: CrashPoint) => void) | undefined;

/** Calls `handler` at every crash point; for tests only. */
export function onCrashPoint(handler: (point: CrashPoint) => void): void {
  reached = handler;
}

/** A crash point where no function is to be made for {@link around}, because every call passes there. */
export function crashPoint(point: CrashPoint): void {
  reached?.(point);
}

/** Does the work of a step between its two crash points. The second is passed only when the work succeeds. */
export function around<Value>(step: CrashStep, work: () => Promise<Value>): Promise<Value> {
  return reached === undefined ? work() : aroundWith(reached, step, work);
}

async function aroundWith<Value>(
  reach: (point: CrashPoint) => void,
  step: CrashStep,
  work: () => Promise<Value>,
): Promise<Value> {
  reach(`before ${step}`);
  const value = await work();
  reach(`after ${step}`);
  return value;
}
