// Loaded before a program under test: ends it when the process that started it has ended, whatever ended that.
process.stdin.on("end", () => process.exit(1));
process.stdin.on("error", () => process.exit(1));
process.stdin.resume();
(process.stdin as { unref?: () => void }).unref?.();
