import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { loadConfig } from "../../src/config.ts";
import { countConnections } from "../../src/serve.ts";
import { expectSettings } from "./settings.ts";

const folder = fileURLToPath(new URL("../../deploy/kubernetes", import.meta.url));
const schemaFile = fileURLToPath(new URL("kubernetes.schema.yaml", import.meta.url));

/** A manifest; what the tests reach into is checked by the schema first. */
// biome-ignore lint/suspicious/noExplicitAny: a document of another program, of any shape.
type Manifest = { readonly kind: string; readonly metadata: { readonly name: string } } & Record<string, any>;

const files = (await readdir(folder)).sort();
const manifests = (await Promise.all(files.map(read))).flat();

async function read(file: string): Promise<{ readonly file: string; readonly manifest: Manifest }[]> {
  const documents = parseAllDocuments(await readFile(join(folder, file), "utf8"), { uniqueKeys: true });
  if ("empty" in documents) throw new Error(`${file} is empty`);
  return documents.map((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    return { file, manifest: document.toJS() };
  });
}

function only(kind: string, name?: string): Manifest {
  const found = manifests.filter(
    ({ manifest }) => manifest.kind === kind && (name ?? manifest.metadata.name) === manifest.metadata.name,
  );
  if (found.length !== 1) throw new Error(`${found.length} of ${kind} ${name ?? ""}`);
  return found[0]?.manifest as Manifest;
}

const kustomization = manifests.find(({ manifest }) => manifest.kind === "Kustomization")?.manifest as Manifest;
const deployment = only("Deployment");
const job = only("Job");
const pod = deployment.spec.template.spec;
const [container] = pod.containers;

/** What the container of a pod finds in its environment. */
function environmentOf({ spec }: Manifest): Record<string, string> {
  const [{ envFrom, env = [] }] = spec.template.spec.containers;
  const sources = envFrom.map(({ configMapRef, secretRef }: Record<string, { name: string }>) =>
    configMapRef === undefined ? only("Secret", secretRef?.name).stringData : only("ConfigMap", configMapRef.name).data,
  );
  const own = env.map(({ name, value }: Record<string, string>) => [name, value]);
  return Object.assign({}, ...sources, Object.fromEntries(own));
}

describe("every manifest", async () => {
  const ajv = new Ajv2020({ allErrors: true });
  ajv.addSchema(parse(await readFile(schemaFile, "utf8")), "kubernetes");

  test.each(manifests.map(({ file, manifest }) => [file, manifest.kind, manifest] as const))(
    "%s (%s) has the fields that Kubernetes knows",
    (_file, kind, manifest) => {
      const validate = ajv.getSchema(`kubernetes#/$defs/${kind}`);
      validate?.(manifest);
      expect(validate?.errors).toBeNull();
    },
  );

  test("is applied with the others, but for secrets and the migration", () => {
    const applied = kustomization.resources;
    const others = files.filter(
      (file) => !["kustomization.yaml", "secrets.example.yaml", "migrate.yaml"].includes(file),
    );
    expect([...applied].sort()).toEqual(others);
  });
});

describe("a pod", () => {
  test("starts with its settings, and the migration with those and its own", () => {
    expectSettings(environmentOf(deployment));
    const { REDIS_URL = "redis://unused", ...env } = environmentOf(job);
    expectSettings({ REDIS_URL, ...env });
    const roles = [deployment, job].map((each) => new URL(environmentOf(each).DATABASE_URL ?? "").username);
    expect(roles).toEqual(["holdfast_server", "holdfast_owner"]);
    expect(environmentOf(deployment).HOLDFAST_MIGRATE_ON_START).toBe("0");
  });

  test("has the doors where its ports, probes and services say", () => {
    const { grpcAddress, httpAddress, metricsAddress } = loadConfig(environmentOf(deployment));
    const ports = Object.fromEntries(
      container.ports.map(({ name, containerPort }: { name: string; containerPort: number }) => [name, containerPort]),
    );
    expect(ports).toEqual({ grpc: grpcAddress.port, http: httpAddress.port, metrics: metricsAddress?.port });
    for (const { httpGet } of [container.livenessProbe, container.readinessProbe]) {
      expect(httpGet).toMatchObject({ port: "http", scheme: "HTTPS" });
    }
    for (const name of ["holdfast", "holdfast-pods"]) {
      const { selector, ports: served } = only("Service", name).spec;
      expect(selector).toEqual(deployment.spec.template.metadata.labels);
      for (const { name: port, targetPort } of served) expect([targetPort, targetPort in ports]).toEqual([port, true]);
    }
  });

  test("shows its metrics to Prometheus where no Service leads", () => {
    const { metricsAddress } = loadConfig(environmentOf(deployment));
    expect(deployment.spec.template.metadata.annotations).toEqual({
      "prometheus.io/scrape": "true",
      "prometheus.io/scheme": "http",
      "prometheus.io/port": String(metricsAddress?.port),
      "prometheus.io/path": "/metrics",
    });
    const services = manifests.filter(({ manifest }) => manifest.kind === "Service");
    expect(services.length).toBeGreaterThan(1);
    const served = services.flatMap(({ manifest }) => manifest.spec.ports);
    expect(served.filter(({ port, targetPort }) => targetPort === "metrics" || port === metricsAddress?.port)).toEqual(
      [],
    );
  });

  test("finds its certificate where its secret is mounted", () => {
    const { tls } = loadConfig(environmentOf(deployment));
    const [{ name, mountPath }] = container.volumeMounts;
    const volume = pod.volumes.find((each: { name: string }) => each.name === name);
    const { stringData, type } = only("Secret", volume.secret.secretName);
    expect(type).toBe("kubernetes.io/tls");
    expect([tls?.certFile, tls?.keyFile]).toEqual(Object.keys(stringData).map((key) => join(mountPath, key)));
  });

  test("is asked every 10 s whether it lives, after 30 s, and every 5 s whether it is ready, after 5 s", () => {
    expect(container.livenessProbe).toMatchObject({
      httpGet: { path: "/livez" },
      initialDelaySeconds: 30,
      periodSeconds: 10,
    });
    expect(container.readinessProbe).toMatchObject({
      httpGet: { path: "/readyz" },
      initialDelaySeconds: 5,
      periodSeconds: 5,
    });
  });

  test("has the time that its server takes at most to stop", () => {
    const { drainDelayMs } = loadConfig(environmentOf(deployment));
    // The drain, payments under way, and a flush that PostgreSQL does not answer.
    const longestStopMs = drainDelayMs + 10_000 + 10_000 + 15_000;
    expect(pod.terminationGracePeriodSeconds * 1000).toBeGreaterThan(longestStopMs);
    expect(container.lifecycle, "the server itself waits").toBeUndefined();
  });

  test("is nobody, writes nothing and may do nothing", () => {
    for (const { spec } of [deployment, job]) {
      const { securityContext, containers } = spec.template.spec;
      expect(securityContext.runAsNonRoot).toBe(true);
      expect(containers[0].securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
    }
  });

  test("finds no settings that Kubernetes makes of the services around it, and no token", () => {
    const templates = manifests.filter(({ manifest }) => manifest.spec?.template !== undefined);
    expect(templates.map(({ manifest }) => manifest.kind).sort()).toEqual(["Deployment", "Job"]);
    for (const { manifest } of templates) {
      expect(manifest.spec.template.spec).toMatchObject({
        enableServiceLinks: false,
        automountServiceAccountToken: false,
      });
    }
    // What there would be with such links, for the Service of this name.
    expect(() => loadConfig({ ...environmentOf(job), HOLDFAST_PORT: "tcp://10.0.0.1:50051" })).toThrow(/HOLDFAST_PORT/);
  });

  test("has what one process can use", () => {
    expect(container.resources).toEqual({
      requests: { cpu: "500m", memory: "512Mi" },
      limits: { cpu: "1000m", memory: "1Gi" },
    });
    const [, heapMb] = /--max-old-space-size=(\d+)/.exec(environmentOf(deployment).NODE_OPTIONS ?? "") ?? [];
    expect(Number(heapMb)).toBeLessThan(1024 - 256);
  });
});

describe("several pods", () => {
  test("are three at least, which a rollout leaves to the autoscaler and adds one before it takes one away", () => {
    expect(only("HorizontalPodAutoscaler").spec.minReplicas).toBe(3);
    expect(deployment.spec.replicas).toBeUndefined();
    expect(deployment.spec.strategy.rollingUpdate).toEqual({ maxSurge: 1, maxUnavailable: 0 });
    expect(deployment.spec.selector.matchLabels).toEqual(deployment.spec.template.metadata.labels);
    expect(only("PodDisruptionBudget").spec).toEqual({ maxUnavailable: 1, selector: deployment.spec.selector });
  });

  test("are never more than PostgreSQL has connections for", () => {
    const { scaleTargetRef, maxReplicas } = only("HorizontalPodAutoscaler").spec;
    expect(scaleTargetRef).toMatchObject({ kind: "Deployment", name: deployment.metadata.name });
    const connectionCount = countConnections(loadConfig(environmentOf(deployment)));
    // docs/operations.md asks for max_connections = 200, of which 3 are superusers'.
    expect((maxReplicas + deployment.spec.strategy.rollingUpdate.maxSurge) * connectionCount).toBeLessThan(197);
  });
});
