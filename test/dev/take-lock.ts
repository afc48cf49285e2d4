// Takes the lock of the folder it is given, says whether it got it, and keeps it until standard input closes.
import { once } from "node:events";
import { lockDataFolder } from "../../src/dev/lock-data-folder.ts";

const word = await lockDataFolder(process.argv[2] ?? "", "postgres").then(
  () => "held",
  (error: Error) => error.message,
);
process.stdout.write(`${word}\n`);
process.stdin.resume();
await once(process.stdin, "end");
