import { collectDefaultMetrics, Registry } from "prom-client";

let registry: Registry | undefined;

/**
 * What is true of the whole process, however many servers run in it: CPU time, memory, event loop, garbage collection, under
 * the names that prom-client gives them in every program. To watch these has a cost of its own, so it is done once, from when
 * somebody first wants it on: a process that serves nothing watches nothing.
 */
export function openProcessRegistry(): Registry {
  if (registry === undefined) {
    registry = new Registry();
    collectDefaultMetrics({ register: registry });
  }
  return registry;
}
