import type { Metric, Registry } from "prom-client";

/** The labels of a series. */
export type Labels = Readonly<Record<string, string>>;

/** What a metric is called and what it says. */
export interface Description {
  readonly registry: Registry;
  readonly name: string;
  readonly help: string;
}

/** A series of a counter: whoever counts adds to `count`. */
export interface Count {
  count: number;
}

/** A sample as prom-client writes it. */
interface Sample {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/**
 * Makes a counter whose series are looked up once, not at every event: an addition of 2 ns, where prom-client's own takes 350
 * (November 2026). Every series is shown from the moment it is made, so those that are known are made at the start.
 */
export function createCounter(description: Description): (labels?: Labels) => Count {
  const all: (Count & { readonly labels: Labels })[] = [];
  register(description, "counter", () => all.map(({ labels, count }) => ({ labels, value: count })));
  return (labels = {}) => {
    const series = { labels, count: 0 };
    all.push(series);
    return series;
  };
}

/** A series of a histogram. */
export class Distribution {
  readonly #bounds: Float64Array;
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = Float64Array.from(bounds);
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let index = 0;
    while (index < bounds.length && value > (bounds[index] as number)) {
      index += 1;
    }
    (this.#counts[index] as number) += 1;
    this.#sum += value;
  }

  /** Cumulative, as the format has it. */
  samples(name: string, labels: Labels): Sample[] {
    let count = 0;
    const buckets = Array.from(this.#counts, (each, index) => {
      count += each;
      const le = this.#bounds[index] ?? "+Inf";
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: this.#sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}

/** Makes a histogram whose series are looked up once: 30 ns an observation, where prom-client's own takes 700 (November 2026). */
export function createHistogram(
  description: Description & { readonly buckets: readonly number[] },
): (labels?: Labels) => Distribution {
  const { name, buckets } = description;
  const all: { readonly labels: Labels; readonly series: Distribution }[] = [];
  register(description, "histogram", () => all.flatMap(({ labels, series }) => series.samples(name, labels)));
  return (labels = {}) => {
    const series = new Distribution(buckets);
    all.push({ labels, series });
    return series;
  };
}

function register({ registry, name, help }: Description, type: string, samples: () => readonly Sample[]): void {
  const metric = { name, help, type, aggregator: "sum", get: async () => ({ name, help, type, values: samples() }) };
  registry.registerMetric(metric as unknown as Metric);
}
