import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

/** The modules that are loaded together with one, by their URLs. */
function loadedWith(module: string, ...args: readonly string[]): string[] {
  const program = `
    import { registerHooks } from "node:module";
    registerHooks({ load: (url, context, next) => (console.log(url), next(url, context)) });
    await import("${module}");`;
  const cwd = fileURLToPath(new URL("..", import.meta.url));
  const options = ["--input-type=module", "-e", program, "-", ...args];
  const { stdout } = spawnSync(process.execPath, options, { cwd, encoding: "utf8" });
  const loaded = stdout.split("\n");
  expect(loaded.filter((url) => url.endsWith(module.slice(1)))).toHaveLength(1);
  return loaded;
}

test("a server loads nothing that its settings do not ask for: neither OpenTelemetry's SDK nor Stripe's package", () => {
  const unasked =
    /node_modules.(@opentelemetry.(sdk|exporter|otlp|resources)|stripe\b)|src.(tracing.tracing|payments.stripe-gateway)\.ts/;
  expect(loadedWith("./src/serve.ts").filter((url) => unasked.test(url))).toEqual([]);
});

test("who only asks a server, or for help, loads none", () => {
  const ofServers = /src.(serve|store)\.ts|node_modules.kysely\b/;
  expect(loadedWith("./src/main.ts", "help").filter((url) => ofServers.test(url))).toEqual([]);
});
