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

/** The log of this process, on its standard output: JSON, or lines for people when it is a terminal. Default level: info. */
export function createLogger(level = "info"): Logger {
  return pino({
    level,
    serializers,
    ...(process.stdout.isTTY
      ? { transport: { target: "pino-pretty", options: { ignore: "pid,hostname", translateTime: "HH:MM:ss.l" } } }
      : {}),
  });
}
