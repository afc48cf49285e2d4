import { spawnSync } from "node:child_process";
import { cp, mkdir, readFile } from "node:fs/promises";
import { delimiter, dirname, join, resolve } from "node:path";

/** What a Dockerfile makes, as folders of this machine. */
export interface Image {
  /** The root of its file system: what the steps put there. */
  readonly root: string;
  /** On this machine. */
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly user: string;
  /** ENTRYPOINT and CMD. */
  readonly command: readonly string[];
  readonly healthcheck: readonly string[];
  /** The base image of each stage. */
  readonly bases: readonly string[];
}

interface Stage {
  readonly root: string;
  workdir: string;
  env: Record<string, string>;
  user: string;
  entrypoint: string[];
  cmd: string[];
  healthcheck: string[];
}

/** Where an image of Node has it. */
const nodePath = "usr/local/bin/node";

/**
 * Runs the steps of a Dockerfile in empty folders, without a container: every stage is a folder below `folder`, and its base
 * image is this machine, with this Node in the place where an image of Node has its own. What it does not know it refuses.
 */
export async function runDockerfile(context: string, folder: string): Promise<Image> {
  const stages = new Map<string, Stage>();
  const bases: string[] = [];
  const mayCopy = await readDockerignore(context);
  let stage: Stage | undefined;
  for (const [instruction, text] of await readInstructions(join(context, "Dockerfile"))) {
    if (instruction === "FROM") {
      const [base = "", , name = String(stages.size)] = text.split(/\s+/);
      bases.push(base);
      stage = await startStage(join(folder, name), base);
      stages.set(name, stage);
      continue;
    }
    if (stage === undefined) throw new Error(`${instruction} before FROM`);
    await steps[instruction]?.(stage, text, { context, stages, mayCopy });
    if (steps[instruction] === undefined) throw new Error(`an instruction that the test does not know: ${instruction}`);
  }
  if (stage === undefined) throw new Error("no stage");
  const { root, workdir, env, user, entrypoint, cmd, healthcheck } = stage;
  return { root, workdir: join(root, workdir), env, user, command: [...entrypoint, ...cmd], healthcheck, bases };
}

async function startStage(root: string, base: string): Promise<Stage> {
  await mkdir(root, { recursive: true });
  if (base.startsWith("node:")) await cp(process.execPath, join(root, nodePath));
  return { root, workdir: "/", env: {}, user: "0", entrypoint: [], cmd: [], healthcheck: [] };
}

/** Instructions with what follows them: comments left out, continued lines joined. */
async function readInstructions(path: string): Promise<[string, string][]> {
  const lines = (await readFile(path, "utf8")).replaceAll("\\\n", " ").split("\n");
  const instructions = lines.filter((line) => line.trim() !== "" && !line.startsWith("#"));
  return instructions.map((line) => [line.split(" ", 1)[0] ?? "", line.slice(line.indexOf(" ") + 1).trim()]);
}

/** Only the form that begins with `*`, leaves everything out, and lets in what is named. */
async function readDockerignore(context: string): Promise<(source: string) => boolean> {
  const lines = (await readFile(join(context, ".dockerignore"), "utf8")).split("\n");
  const [first, ...rest] = lines.filter((line) => line !== "" && !line.startsWith("#"));
  if (first !== "*" || !rest.every((line) => /^![\w./-]+$/.test(line))) throw new Error("an unknown .dockerignore");
  return (source) => rest.includes(`!${source}`);
}

interface Surroundings {
  readonly context: string;
  readonly stages: ReadonlyMap<string, Stage>;
  readonly mayCopy: (source: string) => boolean;
}

const steps: Readonly<
  Record<string, (stage: Stage, text: string, surroundings: Surroundings) => Promise<void> | void>
> = {
  WORKDIR: async (stage, text) => {
    stage.workdir = resolve(stage.workdir, text);
    await mkdir(join(stage.root, stage.workdir), { recursive: true });
  },
  COPY: copy,
  RUN: run,
  ENV: (stage, text) => {
    Object.assign(stage.env, Object.fromEntries(text.split(/\s+/).map((each) => each.split("=", 2))));
  },
  USER: (stage, text) => {
    stage.user = text;
  },
  EXPOSE: () => {},
  ENTRYPOINT: (stage, text) => {
    stage.entrypoint = JSON.parse(text);
  },
  CMD: (stage, text) => {
    stage.cmd = JSON.parse(text);
  },
  HEALTHCHECK: (stage, text) => {
    stage.healthcheck = JSON.parse(text.slice(text.indexOf("CMD") + 3));
  },
};

async function copy(stage: Stage, text: string, { context, stages, mayCopy }: Surroundings): Promise<void> {
  const words = text.split(/\s+/);
  const from = words[0]?.startsWith("--from=") ? stages.get(words.shift()?.slice("--from=".length) ?? "") : undefined;
  const target = words.pop() ?? "";
  for (const source of words) {
    if (from === undefined && !mayCopy(source)) throw new Error(`.dockerignore leaves out ${source}`);
    const path = from === undefined ? join(context, source) : join(from.root, resolve(from.workdir, source));
    const place = join(stage.root, resolve(stage.workdir, target), target.endsWith("/") ? source : "");
    await cp(path, place, { recursive: true });
  }
}

function run({ root, workdir, env }: Stage, text: string): void {
  const outer = Object.entries(process.env).filter(([name]) => !/^(npm_|PATH$|HOLDFAST_|VITEST)/.test(name));
  const { status, stdout, stderr } = spawnSync("/bin/sh", ["-c", text], {
    cwd: join(root, workdir),
    encoding: "utf8",
    env: { ...Object.fromEntries(outer), ...env, PATH: imagePath(root) },
  });
  if (status !== 0) throw new Error(`RUN ${text} failed (${status}):\n${stdout}${stderr}`);
}

/** The PATH in an image: of what this machine has, only what every machine has. */
export function imagePath(root: string): string {
  return [join(root, dirname(nodePath)), "/usr/local/bin", "/usr/bin", "/bin"].join(delimiter);
}
