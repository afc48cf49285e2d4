// Starts a server that no gentle signal ends, in the folder it is given, prints its process id once it is deaf, and stays.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { supervise } from "../../src/dev/supervise.ts";

const folder = process.argv[2] ?? "";
const { pid, readLogTail } = await supervise({
  command: ["/bin/sh", "-c", "trap '' TERM QUIT; echo deaf; while :; do sleep 1; done"],
  cwd: folder,
  logFile: join(folder, "server.log"),
  gentleSignal: "TERM",
  firmSignal: "QUIT",
});
while (!(await readLogTail()).includes("deaf")) await sleep(5);
process.stdout.write(`${pid}\n`);
