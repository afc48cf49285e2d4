// Loaded before a program under test: none of its serving processes can say its metrics.
import cluster from "node:cluster";
import { Registry } from "prom-client";

if (cluster.isWorker) {
  Registry.merge = () => {
    throw new Error("the metrics are withheld");
  };
}
