// Starts a server that no gentle signal ends, in the folder it is given, prints its process id, and stays.
import { join } from "node:path";
import { supervise } from "../../src/dev/supervise.ts";

const folder = process.argv[2] ?? "";
const { pid } = await supervise({
  command: ["/bin/sh", "-c", "trap '' TERM QUIT; while :; do sleep 1; done"],
  cwd: folder,
  logFile: join(folder, "server.log"),
  gentleSignal: "TERM",
  firmSignal: "QUIT",
});
process.stdout.write(`${pid}\n`);
