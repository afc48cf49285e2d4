import { mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseOptions, UsageError, usage } from "./growth/options.ts";
import { renderGrowth } from "./growth/render-report.ts";
import type { GrowthReport } from "./growth/report.ts";
import { runGrowth } from "./growth/run-growth.ts";
import { startTestbed } from "./growth/testbed.ts";
import { publishGrowth } from "./publish.ts";

/** With the seconds since the start. */
function say(text: string): void {
  process.stderr.write(`growth: ${process.uptime().toFixed(0).padStart(4)} s  ${text}\n`);
}

async function writeResults(report: GrowthReport): Promise<string> {
  const folder = fileURLToPath(new URL("./results/", import.meta.url));
  const name = `growth-${report.time.replaceAll(/[:.]/g, "-")}`;
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}${name}.json`, `${JSON.stringify(report, undefined, 2)}\n`);
  await writeFile(`${folder}${name}.md`, renderGrowth(report));
  return `bench/results/${name}.{json,md}`;
}

async function main(): Promise<number> {
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  try {
    const options = parseOptions();
    if (options === undefined) {
      process.stdout.write(usage);
    } else if (options.publish !== undefined) {
      await publishGrowth(JSON.parse(await readFile(options.publish, "utf8")) as GrowthReport);
    } else {
      const report = await runGrowth(startTestbed, options.plan, { signal: interrupt.signal, say });
      process.stdout.write(`\n${renderGrowth(report)}\nAlso, with every number: ${await writeResults(report)}\n`);
    }
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

process.exitCode = await main();
