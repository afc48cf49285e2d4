import { mergePages } from "../metrics/merge-pages.ts";
import type { Slot } from "./slot.ts";

/**
 * The metrics of all processes on one page, each sample with the number of its process. One that does not say them is missing
 * there, and `holdfast_process_answers` says so.
 */
export async function gatherMetrics(slots: readonly Pick<Slot, "metrics">[]): Promise<string> {
  const pages = await Promise.all(slots.map((slot) => slot.metrics()));
  const answers = pages.map((page, index) => `holdfast_process_answers{process="${index + 1}"} ${page ? 1 : 0}`);
  const block = [
    "# HELP holdfast_process_answers 1 when a process of several has said its metrics for this page.",
    "# TYPE holdfast_process_answers gauge",
    ...answers,
  ];
  return mergePages([...pages.filter((page) => page !== undefined), `${block.join("\n")}\n`]);
}
