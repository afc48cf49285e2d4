import { mkdir, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/** A bad command line; the message says what is wrong with it. */
export class UsageError extends Error {}

/** What a benchmark works with. */
export interface Command {
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** Says how far it is, with the seconds since the start. */
  readonly say: (text: string) => void;
}

/** Runs a benchmark; what goes wrong is said on the standard error. Resolves with the exit code. */
export async function runCommand(
  { name, usage }: { readonly name: string; readonly usage: string },
  work: (command: Command) => Promise<void>,
): Promise<number> {
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  const say = (text: string): void => {
    process.stderr.write(`${name}: ${process.uptime().toFixed(0).padStart(4)} s  ${text}\n`);
  };
  try {
    await work({ signal: interrupt.signal, say });
    return 0;
  } catch (error) {
    if (interrupt.signal.aborted) {
      say("interrupted");
      return 130;
    }
    if (error instanceof UsageError) {
      say(error.message);
      process.stdout.write(usage);
      return 1;
    }
    say(error instanceof Error ? (error.stack ?? error.message) : String(error));
    return 1;
  }
}

/** Writes a run into `bench/results/`, a file for each form by its ending; returns what to tell of it. */
export async function writeResults(name: string, forms: Readonly<Record<string, string>>): Promise<string> {
  const folder = fileURLToPath(new URL("./results/", import.meta.url));
  const base = name.replaceAll(/[:.]/g, "-");
  await mkdir(folder, { recursive: true });
  for (const [ending, text] of Object.entries(forms)) {
    await writeFile(`${folder}${base}.${ending}`, text);
  }
  return `bench/results/${base}.{${Object.keys(forms).join(",")}}`;
}
