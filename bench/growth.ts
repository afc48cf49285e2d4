import { readFile } from "node:fs/promises";
import { parseOptions, usage } from "./growth/options.ts";
import { renderGrowth } from "./growth/render-report.ts";
import type { GrowthReport } from "./growth/report.ts";
import { runGrowth } from "./growth/run-growth.ts";
import { startTestbed } from "./growth/testbed.ts";
import { publishGrowth } from "./publish.ts";
import { runCommand, writeResults } from "./run-command.ts";

process.exitCode = await runCommand({ name: "growth", usage }, async (command) => {
  const options = parseOptions();
  if (options === undefined) {
    process.stdout.write(usage);
  } else if (options.publish !== undefined) {
    await publishGrowth(JSON.parse(await readFile(options.publish, "utf8")) as GrowthReport);
  } else {
    const report = await runGrowth(startTestbed, options.plan, command);
    const markdown = renderGrowth(report);
    const json = `${JSON.stringify(report, undefined, 2)}\n`;
    const files = await writeResults(`growth-${report.time}`, { json, md: markdown });
    process.stdout.write(`\n${markdown}\nAlso, with every number: ${files}\n`);
  }
});
