/** npm passes on what the terminal has sent to all: signals that come within this time are one, in milliseconds. */
const sameSignalMs = 1000;

/** Calls `stop` at the first SIGTERM or SIGINT. A later one ends the process at once. Returns what ends the listening. */
export function onStopSignal(stop: (name: string) => void): () => void {
  const names = ["SIGTERM", "SIGINT"] as const;
  let firstAt: number | undefined;
  const listener = (name: NodeJS.Signals): void => {
    if (firstAt === undefined) {
      firstAt = performance.now();
      stop(name);
    } else if (performance.now() - firstAt > sameSignalMs) {
      leave();
      process.kill(process.pid, name);
    }
  };
  const leave = (): void => {
    for (const name of names) process.off(name, listener);
  };
  for (const name of names) process.on(name, listener);
  return leave;
}
