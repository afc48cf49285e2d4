import { answerParent } from "../child.ts";
import { loadOrders, type OrderLoad } from "./order-load.ts";

// In a process of its own, so that its CPU time can be told from the servers'.
answerParent<OrderLoad>(loadOrders);
