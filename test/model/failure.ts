import { write } from "./compare.ts";
import { type Call, mutates } from "./decide.ts";

/** The server and the model do not agree. */
export class Disagreement extends Error {
  override readonly name = "Disagreement";
}

/** A call in one line. */
export function describe({ rpc, request, requestId, door, idBy, toNobody }: Call): string {
  const id = mutates(rpc) ? ` request_id "${requestId}"${idBy === "field" ? "" : ` (${idBy})`}` : "";
  const body = write(request).replaceAll(/(.)\1{99,}/g, "$1...");
  return `${rpc} ${body}${id} on ${door}${toNobody === true ? " to a shop that does not exist" : ""}`;
}
