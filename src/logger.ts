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

/** The pause before what could not be written is tried again, in milliseconds. */
const pauseMs = 100;

/** How often in a row what waits is tried at the end of a process whose log nobody reads. */
const lastTryCount = 10;

/** What is used of sonic-boom's inside (4.2.1). */
interface Inside {
  readonly _writing: boolean;
  readonly _writingBuf: string | Buffer;
  readonly _bufs: string[];
}

/**
 * Standard output, also when it cannot be written, as on a full disk, or is not read: that is no reason to serve nobody. What
 * waits is written when there is room again. sonic-boom's own tries keep the process, and those at its end never stop: it
 * could not end.
 */
function openOutput() {
  const output = pino.destination({ dest: 1, sync: false, maxLength: maxWaitingBytes, retryEAGAIN: () => false });
  output.on("error", () => {
    setTimeout(() => output.write(""), pauseMs).unref();
  });
  output.flushSync = () => {
    const { _writing: isWriting, _writingBuf: first, _bufs: others } = output as unknown as Inside;
    writeAtEnd(Buffer.concat([...(isWriting ? [] : [first]), ...others.splice(0)].map((each) => Buffer.from(each))));
  };
  return output;
}

function writeAtEnd(lines: Buffer): void {
  let rest = lines;
  for (let tries = 0; rest.length > 0; ) {
    try {
      rest = rest.subarray(writeSync(1, rest));
      tries = 0;
    } catch (error) {
      tries += 1;
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || tries === lastTryCount) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pauseMs);
    }
  }
}
