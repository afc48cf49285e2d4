/** A table as Markdown, padded so that it reads well in a terminal too. The first column is of names, the others of numbers. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const pad = (cell: string, column: number): string =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  const line = (cells: readonly string[]): string => `| ${cells.map(pad).join(" | ")} |\n`;
  const rules = widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`));
  return `${line(head)}${line(rules)}${rows.map(line).join("")}`;
}

const integers = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** With thousands separators; a dash for what was not measured. */
export function integer(value: number): string {
  return Number.isFinite(value) ? integers.format(value) : "–";
}

/** With a number of digits after the point; a dash for what was not measured. */
export function decimal(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}
