import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { loadConfig } from "../../src/config.ts";
import { expectSettings } from "./settings.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));

/** What the tests look at in a service. */
interface Service {
  readonly image?: string;
  readonly build?: string;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly secrets?: readonly { readonly source: string; readonly target: string }[];
}

const read = async (path: string) => parse(await readFile(join(project, path), "utf8"));
const { services, volumes, secrets } = (await read("compose.yaml")) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, unknown>>;
};

test("Holdfast starts with what it is given, after both stores are healthy", () => {
  const { environment = {}, depends_on: dependsOn } = services.holdfast ?? {};
  expectSettings({ HOLDFAST_GRPC_ADDR: "0.0.0.0:50051", HOLDFAST_HTTP_ADDR: "0.0.0.0:8080", ...environment });
  for (const store of ["redis", "postgres"]) {
    expect(dependsOn?.[store]?.condition).toBe("service_healthy");
    expect(services[store]?.healthcheck?.test[0]).toBe("CMD");
  }
  expect(new URL(environment.REDIS_URL ?? "").hostname).toBe("redis");
  const { hostname, username, password, pathname } = new URL(environment.DATABASE_URL ?? "");
  const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = services.postgres?.environment ?? {};
  expect([hostname, username, password, pathname]).toEqual([
    "postgres",
    POSTGRES_USER,
    POSTGRES_PASSWORD,
    `/${POSTGRES_DB}`,
  ]);
});

test("Redis writes its log, syncs it every second and evicts nothing", () => {
  const command = services.redis?.command?.join(" ");
  for (const flag of ["--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"]) {
    expect(command).toContain(flag);
  }
});

test("nothing is published but on loopback", () => {
  const ports = Object.values(services).flatMap((service) => service.ports ?? []);
  expect(ports.length).toBeGreaterThan(0);
  expect(ports.filter((port) => !port.startsWith("127.0.0.1:"))).toEqual([]);
});

test("metrics are shown to Prometheus where nothing is published", () => {
  const { environment = {}, ports = [] } = services.holdfast ?? {};
  const { metricsAddress } = loadConfig(environment);
  expect(metricsAddress?.host).toBe("0.0.0.0");
  expect(ports.filter((port) => port.endsWith(`:${metricsAddress?.port}`))).toEqual([]);
});

test("every image has a version, every volume is declared, and every file that is mounted is there", () => {
  const all = Object.values(services);
  const foreign = all.flatMap(({ image, build }) => (build === undefined ? (image ?? []) : []));
  expect(foreign.filter((image) => !/:v?\d+/.test(image))).toEqual([]);
  const sources = all.flatMap((service) => service.volumes ?? []).map((volume) => volume.split(":")[0] ?? "");
  expect(sources.filter((source) => !source.startsWith("./")).sort()).toEqual(Object.keys(volumes).sort());
  expect(sources.filter((source) => source.startsWith("./") && !existsSync(join(project, source)))).toEqual([]);
});

test("Prometheus, Grafana and the Alertmanager find each other, their files and their secrets", async () => {
  const places = (await read("deploy/prometheus/prometheus.yml")) as {
    readonly rule_files: readonly string[];
    readonly alerting: { readonly alertmanagers: readonly Targets[] };
    readonly scrape_configs: readonly Targets[];
  };
  const hosts = [...places.alerting.alertmanagers, ...places.scrape_configs].flatMap(targetsOf);
  const { metricsAddress } = loadConfig(services.holdfast?.environment ?? {});
  expect(hosts).toEqual(["alertmanager:9093", `holdfast:${metricsAddress?.port}`]);
  const [{ url }] = (await read("deploy/grafana/provisioning/datasources/prometheus.yml")).datasources;
  const names = [...hosts, new URL(url).host].map((host) => host.split(":")[0] ?? "");
  expect(names.filter((name) => !(name in services))).toEqual([]);
  expect(places.rule_files.filter((file) => !existsSync(join(project, "deploy/prometheus", file)))).toEqual([]);

  const mounted = (services.grafana?.volumes ?? []).map((volume) => volume.split(":")[1]);
  const [{ options }] = (await read("deploy/grafana/provisioning/dashboards/holdfast.yml")).providers;
  expect(mounted).toContain(options.path);

  const given = services.alertmanager?.secrets ?? [];
  expect(given.map(({ source }) => source).sort()).toEqual(Object.keys(secrets).sort());
  const asked = (await readFile(join(project, "deploy/alertmanager.yml"), "utf8")).match(
    /\/etc\/alertmanager\/secrets\/[\w-]+/g,
  );
  expect(given.map(({ target }) => target).sort()).toEqual([...new Set(asked)].sort());
});

interface Targets {
  readonly static_configs: readonly { readonly targets: readonly string[] }[];
}

function targetsOf({ static_configs: configs }: Targets): readonly string[] {
  return configs.flatMap(({ targets }) => targets);
}
