/** Where the demo writes: standard output, or what a test gives. */
export interface Output {
  /** True: a person watches, and a line may be written over. */
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** A line that shows how far something is. */
export interface ProgressLine {
  /** Takes the line away. */
  stop(): void;
}

const redrawMs = 100;
const plainMs = 2000;

/** Shows `render()` again and again: in one place on a terminal, as a line every two seconds elsewhere. */
export function showProgress(output: Output, render: () => string): ProgressLine {
  const isTerminal = output.isTTY === true;
  const show = (): void => {
    output.write(isTerminal ? `\r\x1b[K${render()}` : `${render()}\n`);
  };
  const timer = setInterval(show, isTerminal ? redrawMs : plainMs);
  return {
    stop: () => {
      clearInterval(timer);
      if (isTerminal) {
        output.write("\r\x1b[K");
      }
    },
  };
}
