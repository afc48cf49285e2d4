import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { HoldfastProcess } from "../helpers/holdfast.ts";
import { useStores } from "../helpers/use-holdfast.ts";
import { plansOf } from "./plans.ts";
import { openStage, type Stage } from "./stage.ts";
import { type Crew, crash, type Plan, replaceDead } from "./sweep.ts";

/** The path of a mutation: from its call to its answer, with the flush that makes it durable. `npm run crash` sweeps them all. */
const path =
  /^kill (before|after) (call|handler|mutation: run script|mutation: become durable|flush: (append|release)) #/;

const stores = useStores();
let stage: Stage;
let crew: Crew;

beforeAll(async () => {
  stage = await openStage(stores.urls);
  crew = { rescuer: await stage.spawn(), victims: [] as HoldfastProcess[] };
});
afterAll(async () => {
  await stage?.close();
});

describe("a server that is killed under load", () => {
  const plans = plansOf(4).filter(({ name }) => path.test(name));

  test("is killed at every point of the path", () => {
    expect(plans).toHaveLength(12);
  });

  test.each(plans)("$name: others answer its callers, once each, and nothing is lost", async ({ plan }) => {
    await replaceDead(stage, crew, 1);
    await crash(stage, crew, plan as Plan);
  });
});
