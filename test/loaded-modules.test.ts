import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const program = `
  import { registerHooks } from "node:module";
  registerHooks({ load: (url, context, next) => (console.log(url), next(url, context)) });
  await import("./src/serve.ts");`;

test("a server loads nothing that its settings do not ask for: neither OpenTelemetry's SDK nor Stripe's package", () => {
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { cwd, encoding: "utf8" });
  const loaded = stdout.split("\n");
  expect(loaded.filter((url) => /src.serve\.ts$/.test(url))).toHaveLength(1);
  const unasked =
    /node_modules.(@opentelemetry.(sdk|exporter|otlp|resources)|stripe\b)|src.(tracing.tracing|payments.stripe-gateway)\.ts/;
  expect(loaded.filter((url) => unasked.test(url))).toEqual([]);
});
