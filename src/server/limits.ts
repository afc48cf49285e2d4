/** Largest request, in bytes: the largest legitimate one (100 lines of 64-character SKUs) is below 10 KiB. */
export const MAX_REQUEST_BYTES = 64 * 1024;
/** Largest response or stream message, in bytes: what gRPC clients accept by default. */
export const MAX_RESPONSE_BYTES = 4 * 1024 * 1024;
/**
 * How long a request may take to arrive, in milliseconds. Until it has, nobody was asked who calls: without the limit anybody
 * could hold calls open for ever.
 */
export const MAX_ARRIVAL_MS = 30_000;
