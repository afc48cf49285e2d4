import type { Config } from "../config.ts";

/** What a serving process is told: first to start, later to stop. And to say its own metrics, and those of all processes. */
export type Order =
  | { readonly start: Task }
  | { readonly say: number }
  | { readonly page: number; readonly text: string }
  | "stop";

/**
 * What a serving process says: once that its doors are open, or why they are not; its own metrics when it is asked; and that
 * somebody asked it for those of all processes. Questions about metrics have numbers, so that each gets its answer.
 */
export type Report =
  | { readonly ready: Ports }
  | { readonly failure: string }
  | { readonly said: number; readonly text: string }
  | { readonly askedForPage: number };

/** What a serving process serves with. */
export interface Task {
  /** Counted from 1. A process that takes the place of another one has its number. */
  readonly number: number;
  readonly config: Config;
  readonly redisUrl: string;
  readonly databaseUrl: string;
  /** What it logs, at least: a level of pino. */
  readonly logLevel: string;
}

/** Where the doors are; the same for all processes. */
export interface Ports {
  readonly grpcPort: number;
  readonly httpPort: number;
}
