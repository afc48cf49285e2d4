import { answerParent } from "./child.ts";
import { loadWithH2load } from "./h2load.ts";
import type { Load, LoadResult } from "./load.ts";
import { loadWithOwn } from "./own-load.ts";

// In a process of its own, so that its CPU time, and that of the h2load it starts, can be told from the servers'.
answerParent<Load>(
  (load): Promise<LoadResult> => (load.generator === "h2load" ? loadWithH2load(load) : loadWithOwn(load)),
);
