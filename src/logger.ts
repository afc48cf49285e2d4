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

/**
 * Standard output, also when it cannot be written, as on a full disk: that is no reason to serve nobody. What waits is written
 * when there is room again.
 */
function openOutput() {
  const output = pino.destination({ dest: 1, sync: false, maxLength: maxWaitingBytes });
  let isFailing = false;
  output.on("error", () => {
    isFailing = true;
  });
  output.on("write", () => {
    isFailing = false;
  });
  const { flushSync } = output;
  // At the end of the process it would be tried for ever (sonic-boom 4.2.1): a process that cannot end.
  output.flushSync = () => {
    if (!isFailing) flushSync.call(output);
  };
  return output;
}
