/** A sample of a page of metrics. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A page of metrics, read. */
export interface MetricsPage {
  readonly samples: readonly Sample[];
  /** `counter`, `gauge`, `histogram` or `summary`, by name. */
  readonly types: ReadonlyMap<string, string>;
  /** The sum of the samples of a name that have these labels, among others. Throws when there is none: a typo is not 0. */
  sum(name: string, labels?: Readonly<Record<string, string>>): number;
}

const suffixes: Readonly<Record<string, readonly string[]>> = {
  counter: [""],
  gauge: [""],
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["", "_sum", "_count"],
};

/**
 * Reads Prometheus' text format 0.0.4, and throws on whatever its description does not allow: samples without HELP and TYPE
 * before them, names and labels that are none, a series twice, a metric in two places, a histogram that does not add up.
 */
export function parseMetrics(text: string): MetricsPage {
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  const types = new Map<string, string>();
  const samples: Sample[] = [];
  const seen = new Set<string>();
  let helped = "";
  let current = "";
  for (const line of text.split("\n").filter((each) => each !== "")) {
    const help = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) \S.*$/.exec(line);
    const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary)$/.exec(line);
    if (help !== null) {
      helped = help[1] as string;
    } else if (type !== null) {
      current = type[1] as string;
      if (current !== helped || types.has(current)) throw new Error(`TYPE out of place: ${line}`);
      types.set(current, type[2] as string);
    } else {
      const sample = parseSample(line);
      const kind = types.get(current) ?? "";
      if (!suffixes[kind]?.some((suffix) => sample.name === current + suffix)) throw new Error(`stray: ${line}`);
      const key = `${sample.name} ${JSON.stringify(Object.entries(sample.labels).sort())}`;
      if (seen.has(key)) throw new Error(`twice: ${line}`);
      seen.add(key);
      if (kind !== "gauge" && !(sample.value >= 0)) throw new Error(`neither 0 nor more: ${line}`);
      samples.push(sample);
    }
  }
  for (const [name, type] of types) {
    if (type === "histogram") checkHistogram(name, samples);
  }
  return { samples, types, sum: (name, labels = {}) => sum(samples, name, labels) };
}

function parseSample(line: string): Sample {
  const [, name, inBraces, text] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
  if (name === undefined || text === undefined) throw new Error(`not a sample: ${line}`);
  const labels: Record<string, string> = {};
  let rest = inBraces ?? "";
  while (rest !== "") {
    const [whole, label, value] = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,(?=.)|$)/.exec(rest) ?? [];
    if (whole === undefined || label === undefined || label in labels) throw new Error(`bad labels: ${line}`);
    labels[label] = value as string;
    rest = rest.slice(whole.length);
  }
  const value = text === "+Inf" ? Number.POSITIVE_INFINITY : Number(text);
  if (!/^([+-]?[0-9.]+(e[+-]?[0-9]+)?|\+Inf|NaN)$/i.test(text)) throw new Error(`not a number: ${line}`);
  return { name, labels, value };
}

/** Buckets grow, the last one is +Inf and holds the count, and every series has all three kinds of samples. */
function checkHistogram(name: string, samples: readonly Sample[]): void {
  const groups = new Map<string, { buckets: [number, number][]; sum?: number; count?: number }>();
  for (const { name: found, labels, value } of samples) {
    if (![`${name}_bucket`, `${name}_sum`, `${name}_count`].includes(found)) continue;
    const { le, ...others } = labels;
    const key = JSON.stringify(Object.entries(others).sort());
    const group = groups.get(key) ?? { buckets: [] };
    groups.set(key, group);
    if (found.endsWith("_bucket")) group.buckets.push([le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le), value]);
    else if (found.endsWith("_sum")) group.sum = value;
    else group.count = value;
  }
  for (const [key, { buckets, sum, count }] of groups) {
    const grows = buckets.every(([le, value], index) => {
      const [lastLe, lastValue] = buckets[index - 1] ?? [Number.NEGATIVE_INFINITY, 0];
      return le > lastLe && value >= lastValue;
    });
    const [le, value] = buckets.at(-1) ?? [];
    const isWhole = grows && le === Number.POSITIVE_INFINITY && value === count && sum !== undefined;
    if (!isWhole) throw new Error(`the histogram ${name} ${key} does not add up`);
  }
}

function sum(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>>): number {
  const wanted = Object.entries(labels);
  const found = samples.filter(
    (each) => each.name === name && wanted.every(([key, value]) => each.labels[key] === value),
  );
  if (found.length === 0) throw new Error(`no sample ${name} ${JSON.stringify(labels)}`);
  return found.reduce((total, { value }) => total + value, 0);
}
