import { agrees, type Check, type Witnesses } from "./audit.ts";
import { connectionCount, inFlightCount, type SaleProgress } from "./flash-sale.ts";
import { summariseLatencies } from "./latencies.ts";
import { countMembers, priceMinor, type SalePlan } from "./plan.ts";

const labelWidth = 13;
const nameWidth = 16;
const valueWidth = 11;

const integers = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** A whole number with thousands set apart. */
export function count(value: number): string {
  return Number.isFinite(value) ? integers.format(value) : "nothing";
}

/** A line of the report: a label, and what it says. */
export function line(label: string, text: string): string {
  return `  ${label.padEnd(labelWidth)}${text}\n`;
}

/** Seconds with one decimal. */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** The first line. */
export function heading(plan: SalePlan): string {
  const price = `${(priceMinor / 100).toFixed(2)} USD`;
  return (
    `\nFlash sale: ${count(plan.buyerCount)} buyers, ${count(plan.stockCount)} units at ${price}, ` +
    `${inFlightCount} calls in flight on ${connectionCount} connections\n\n`
  );
}

/** What the set-up did. */
export function setUpResult(plan: SalePlan, ms: number, shop: string): string {
  const memberCount = countMembers(plan);
  const guests = plan.buyerCount === memberCount ? "" : `, ${count(plan.buyerCount - memberCount)} guests`;
  return line("set-up", `${seconds(ms)}   shop ${shop}: ${count(memberCount)} wallets${guests}`);
}

/** The live line while the wallets are made ready. */
export function setUpProgress({ readyCount }: SaleProgress, plan: SalePlan): string {
  return `  set-up       ${count(readyCount)} of ${count(countMembers(plan))} wallets ready`;
}

/** The live line during the sale. */
export function saleProgress(progress: SaleProgress, plan: SalePlan, watchedUnits: number): string {
  const answered = `${count(progress.answeredCount)} of ${count(plan.buyerCount)} buyers answered`;
  return `  sale         ${answered}   ${count(progress.soldCount)} sold   the watcher saw ${count(watchedUnits)}`;
}

/** What came out. */
export function results({ plan, result, watcher }: Witnesses): string {
  const soldCount = result.orders.reduce((sum, { unitCount }) => sum + unitCount, 0);
  const { p50Ms, p99Ms, p999Ms } = summariseLatencies(result.latenciesMs);
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  return [
    line("sold", count(soldCount)),
    line("refused", refusals(result.refusals)),
    line("left", count(plan.stockCount - soldCount)),
    result.impatientCount === 0
      ? ""
      : line("sent twice", `${count(result.impatientCount)} orders; each took effect at most once`),
    result.repeatedCount === 0
      ? ""
      : line("repeated", `${count(result.repeatedCount)} calls that had no answer, with the same request id`),
    result.unknownCount === 0 ? "" : line("unanswered", count(result.unknownCount)),
    line("watcher", `saw ${count(watcher.orderCount)} orders with ${count(watcher.unitCount)} units`),
    line("throughput", `${count((result.answerCount / result.durationMs) * 1000)} answers/s`),
    line("latency", `p50 ${ms(p50Ms)}   p99 ${ms(p99Ms)}   p999 ${ms(p999Ms)}`),
  ].join("");
}

function refusals(byReason: ReadonlyMap<string, number>): string {
  const total = [...byReason.values()].reduce((sum, each) => sum + each, 0);
  const parts = [...byReason]
    .sort((left, right) => right[1] - left[1])
    .map(([reason, each]) => `${reason} ${count(each)}`);
  return parts.length === 0 ? count(total) : `${count(total)}   ${parts.join("   ")}`;
}

/** The audit, a line per check: the number all sources agree on, or what each of them says. */
export function audit(checks: readonly Check[], source: string): string {
  return `\n  audit        ${source}\n${checks.map(auditLine).join("")}`;
}

function auditLine(check: Check): string {
  const name = check.name.padEnd(nameWidth);
  if (agrees(check)) {
    return `    ok   ${name}${count(check.values[0]?.[1] ?? 0).padStart(valueWidth)}   ${sources(check)}\n`;
  }
  return `    NO   ${name}${check.values.map(([source, value]) => `${source} ${count(value)}`).join(", ")}\n`;
}

function sources({ values }: Check): string {
  const [first, ...others] = values.map(([source]) => source);
  return first === "none" ? `none ${others.join(", ")}` : [first, ...others].join(" = ");
}

/** The last line. */
export function verdict(checks: readonly Check[]): string {
  const failed = checks.filter((each) => !agrees(each));
  if (failed.length === 0) {
    return "\nEverybody agrees.\n\n";
  }
  return `\nTHE AUDIT DISAGREES: ${failed.map(({ name }) => name).join(", ")}.\n\n`;
}
