import { writeSync } from "node:fs";
import { type Logger, pino } from "pino";

/** Database errors carry their whole connection along, which is not for the log. */
const serializers = {
  err: (error: Error & { code?: unknown }) => ({
    type: error.name,
    message: error.message,
    code: error.code,
    stack: error.stack,
  }),
};

/** What waits to be written, at most, in bytes; then lines are dropped. */
const maxWaitingBytes = 1_000_000;

/** The log of this process, on its standard output: JSON, or lines for people when it is a terminal. Default level: info. */
export function createLogger(level = "info"): Logger {
  const options = { level, serializers };
  if (process.stdout.isTTY) {
    const format = { ignore: "pid,hostname", translateTime: "HH:MM:ss.l" };
    return pino({ ...options, transport: { target: "pino-pretty", options: format } });
  }
  return pino(options, openOutput());
}

/** How often what waits is tried at the end of a process whose log nobody reads, and the pause between, in milliseconds. */
const lastTries = { count: 10, pauseMs: 100 };

/**
 * Standard output, also when it cannot be written, as on a full disk: that is no reason to serve nobody. What waits is written
 * when there is room again.
 */
function openOutput() {
  const output = pino.destination({ dest: 1, sync: false, maxLength: maxWaitingBytes });
  output.on("error", () => {
    // The lines are kept, and tried again with the next one.
  });
  // sonic-boom's own (4.2.1) tries for ever what cannot be written and what nobody reads: a process that cannot end.
  output.flushSync = () => {
    const { _bufs: waiting } = output as unknown as { readonly _bufs: string[] };
    writeWaiting(Buffer.from(waiting.splice(0).join("")));
  };
  return output;
}

function writeWaiting(lines: Buffer): void {
  let rest = lines;
  for (let tries = 1; rest.length > 0; ) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || tries === lastTries.count) return;
      tries += 1;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, lastTries.pauseMs);
    }
  }
}
