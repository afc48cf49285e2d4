import { answerParent } from "../child.ts";
import { type Crowd, type CrowdOptions, openCrowd } from "./watch-crowd.ts";

/** What the process can be asked for, one after the other. */
export type WatchRequest =
  | ({ readonly kind: "open" } & CrowdOptions)
  | { readonly kind: "count" }
  | { readonly kind: "reach"; readonly position: number; readonly timeoutMs: number }
  | { readonly kind: "close" };

let crowd: Crowd | undefined;

// In a process of its own, so that its CPU time can be told from the server's and the callers'.
answerParent<WatchRequest>(async (request) => {
  switch (request.kind) {
    case "open":
      crowd = await openCrowd(request);
      return undefined;
    case "count":
      return crowd?.count();
    case "reach":
      return await crowd?.reach(request.position, request.timeoutMs);
    case "close":
      return crowd?.close();
  }
});
