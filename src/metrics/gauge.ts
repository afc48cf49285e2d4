import { Gauge, type Registry } from "prom-client";

/** What a gauge is called, and where its value comes from. */
export interface GaugeOptions {
  readonly registry: Registry;
  readonly name: string;
  readonly help: string;
  /** Read when somebody looks. A value for each value of `label` where there is one. */
  readonly read: () => number | Readonly<Record<string, number>>;
  readonly label?: string;
}

/** Makes a gauge that costs nothing until it is looked at. */
export function createGauge({ registry, name, help, read, label }: GaugeOptions): void {
  new Gauge({
    registers: [registry],
    name,
    help,
    labelNames: label === undefined ? [] : [label],
    collect() {
      const values = read();
      if (typeof values === "number") {
        this.set(values);
        return;
      }
      for (const [value, count] of Object.entries(values)) {
        this.set({ [label as string]: value }, count);
      }
    },
  });
}
