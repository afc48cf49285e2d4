import type { Logger } from "pino";
import type { Config } from "../config.ts";
import type { Tracing } from "./tracing.ts";

/** Tracing that sends its spans somewhere. */
export interface OpenTracing extends Tracing {
  /** Sends what is left, for 5 s at most. */
  close(): Promise<void>;
}

/** How often it is logged that spans cannot be sent, in milliseconds. */
const reminderMs = 60_000;
const closeMs = 5000;

/**
 * Opens what the settings say, by OTLP over HTTP. Its modules are loaded here and only here: whoever does not trace has none of it.
 * Spans wait in a queue of 2,048; what has no room there, because nobody takes them fast enough, is dropped.
 */
export async function openTracing(
  { tracesUrl, serviceName, traceShare }: Pick<Config, "tracesUrl" | "serviceName" | "traceShare">,
  logger: Logger,
): Promise<OpenTracing | undefined> {
  if (tracesUrl === undefined) {
    return undefined;
  }
  const [sdk, { resourceFromAttributes }, { OTLPTraceExporter }, { createTracing }, { diag, DiagLogLevel }] =
    await Promise.all([
      import("@opentelemetry/sdk-trace"),
      import("@opentelemetry/resources"),
      import("@opentelemetry/exporter-trace-otlp-proto"),
      import("./tracing.ts"),
      import("@opentelemetry/api"),
    ]);
  diag.setLogger(rarely(logger), { logLevel: DiagLogLevel.ERROR, suppressOverrideMessage: true });
  const exporter = new OTLPTraceExporter({ url: tracesUrl, timeoutMillis: closeMs });
  const provider = new sdk.TracerProvider({
    resource: resourceFromAttributes({ "service.name": serviceName }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(traceShare) }),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter, exportTimeoutMillis: closeMs })],
  });
  const tracing = createTracing(provider.getTracer("holdfast"));
  return {
    ...tracing,
    close: async () => {
      await provider.shutdown().catch((error: unknown) => logger.warn({ err: error }, "the last spans were not sent"));
    },
  };
}

/** What OpenTelemetry says of itself: that spans could not be sent, with each try. */
function rarely(logger: Logger) {
  let saidAtMs = Number.NEGATIVE_INFINITY;
  const error = (message: string): void => {
    if (performance.now() - saidAtMs >= reminderMs) {
      saidAtMs = performance.now();
      logger.warn({ reason: message.slice(0, 300) }, "spans could not be sent");
    }
  };
  const ignore = (): void => {};
  return { error, warn: ignore, info: ignore, debug: ignore, verbose: ignore };
}
