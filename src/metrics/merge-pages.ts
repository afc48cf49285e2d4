/**
 * One page out of those of several processes, each of whose samples carries its number. They are not added up: when one process
 * is replaced, its counters begin at 0 again, and Prometheus can only tell that from a sum which grew by itself.
 */
export function mergePages(pages: readonly string[]): string {
  const blocks = new Map<string, string[]>();
  for (const page of pages) {
    for (const block of page.trimEnd().split("\n\n")) {
      const [help = "", type = "", ...samples] = block.split("\n");
      const header = `${help}\n${type}`;
      blocks.set(header, [...(blocks.get(header) ?? []), ...samples]);
    }
  }
  return Array.from(blocks, ([header, samples]) => `${[header, ...samples].join("\n")}\n`).join("\n");
}
