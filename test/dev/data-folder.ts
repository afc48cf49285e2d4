import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { startEmbeddedPostgres } from "../../src/dev/embedded-postgres.ts";
import { createTemporaryFolder } from "../helpers/servers.ts";

/**
 * Gives every test of a file a data folder with a cluster in it, as a first start leaves it. Copied from one that is made
 * once per file, because making one takes most of a second.
 */
export function useDataFolder(): { readonly dataDir: string } {
  const folder = { dataDir: "" };
  let template = "";
  beforeAll(async () => {
    template = await createTemporaryFolder();
    await (await startEmbeddedPostgres({ dataDir: template })).stop();
  });
  beforeEach(async () => {
    folder.dataDir = await createTemporaryFolder();
    await promisify(execFile)("cp", ["-a", join(template, "postgres"), folder.dataDir]);
  });
  afterEach(() => rm(folder.dataDir, { recursive: true, force: true }));
  afterAll(() => rm(template, { recursive: true, force: true }));
  return folder;
}
