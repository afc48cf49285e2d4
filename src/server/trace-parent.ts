const pattern = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const sampledFlag = 1;

/**
 * The header `traceparent` of W3C Trace Context, when it is well-formed, as one of version 00; empty otherwise. A later version
 * begins with the same four fields and may have more, behind another `-`; of its flags `sampled` is the one that is known here.
 */
export function readTraceParent(header: string | undefined): string {
  const [, version, traceId, parentId, flags = "", more] = pattern.exec(header ?? "") ?? [];
  if (version === "00") {
    return more === undefined ? (header as string) : "";
  }
  const isSampled = (Number.parseInt(flags, 16) & sampledFlag) !== 0;
  return version === undefined ? "" : `00-${traceId}-${parentId}-0${Number(isSampled)}`;
}

/** The trace that a `traceparent` belongs to, 32 hexadecimal digits; undefined for an empty one. */
export function traceIdOf(traceParent: string): string | undefined {
  return pattern.exec(traceParent)?.[2];
}
