/**
 * Does work number 0 to count - 1, at most `width` at a time, in order of their numbers. The first error stops the
 * beginning of further work and is thrown when what had begun has ended.
 */
export async function inParallel(count: number, width: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next;
      next += 1;
      await work(index).catch((error) => {
        next = count;
        throw error;
      });
    }
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(width, count) }, worker));
  const failure = results.find((result) => result.status === "rejected");
  if (failure !== undefined) {
    throw failure.reason;
  }
}
