import type { Logger } from "pino";
import type { Config } from "../config.ts";

/** The stores of a command. */
export interface DemoStores {
  readonly redisUrl: string;
  readonly databaseUrl: string;
  stop(): Promise<void>;
}

/** What the demo needs. */
export interface DemoOptions {
  readonly config: Config;
  readonly values: { readonly buyers?: string; readonly stock?: string; readonly target?: string };
  /** Opens the stores of the settings, or private ones; not called when a target is given. */
  readonly openStores: () => Promise<DemoStores>;
  readonly logger: Logger;
}

/** Runs the flash sale; false when anything disagrees. */
export async function runDemo(_options: DemoOptions): Promise<boolean> {
  return false;
}
