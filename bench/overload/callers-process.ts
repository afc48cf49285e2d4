import { answerParent } from "../child.ts";
import { type CallersTask, callShops } from "./callers.ts";

// In a process of its own, so that it can have a core of its own.
answerParent<CallersTask>(callShops);
