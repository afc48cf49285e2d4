const pattern = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The header `traceparent` of W3C Trace Context, when it is well-formed and of version 00; empty otherwise. */
export function readTraceParent(header: string | undefined): string {
  return header !== undefined && pattern.test(header) ? header : "";
}

/** The trace that a `traceparent` belongs to, 32 hexadecimal digits; undefined for an empty one. */
export function traceIdOf(traceParent: string): string | undefined {
  return pattern.exec(traceParent)?.[1];
}
