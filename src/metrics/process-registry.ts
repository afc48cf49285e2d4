import { collectDefaultMetrics, Registry } from "prom-client";

/**
 * What is true of the whole process, however many servers run in it: CPU time, memory, event loop, garbage collection, under
 * the names that prom-client gives them in every program. To watch these has a cost of its own, so it is done once.
 */
export const processRegistry = new Registry();

collectDefaultMetrics({ register: processRegistry });
