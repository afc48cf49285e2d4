/** The known name that was probably meant: one that begins like this, or else the one with the least to change. */
export function findNearest(name: string, known: readonly string[]): string {
  const longer = known.find((each) => each.startsWith(name));
  const distances = known.map((each) => ({ each, distance: editDistance(name, each) }));
  return longer ?? distances.reduce((best, next) => (next.distance < best.distance ? next : best)).each;
}

/** Levenshtein's distance, one row at a time. */
function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 0; i < left.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < right.length; j++) {
      const replaced = at(row, j) + (left[i] === right[j] ? 0 : 1);
      next.push(Math.min(replaced, at(row, j + 1) + 1, at(next, j) + 1));
    }
    row = next;
  }
  return at(row, right.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? 0;
}
