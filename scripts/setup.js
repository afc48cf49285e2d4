// Makes a fresh clone ready to run; the pre-script of the other npm scripts. Plain JavaScript for Node 20 without any
// package, because it is what installs the packages and Node 24. With nothing to do it takes a few milliseconds.
//
// usage: node scripts/setup.js [packages | server | bench | tests]
//   packages   the npm packages and Node 24
//   server     these and redis-server, unless REDIS_URL names another Redis (default)
//   bench      these and redis-server, which the benchmark starts itself whatever REDIS_URL says; where it can be installed,
//              h2load, for load from outside
//   tests      these and redis-server, which the tests start themselves whatever REDIS_URL says; where apt-get can install
//              them, protoc, Python's gRPC and curl, for the tests of callers in other languages, and Prometheus with its
//              Alertmanager, for the tests of alerts and dashboards
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const wantedNodeMajor = "24";
const wantedRedisMajor = 7;
const aptInstall = "apt-get -qq -o DPkg::Lock::Timeout=60 install -y --no-install-recommends";
const redisPrograms = ["redis-server", "valkey-server"];

/** Packages that start a system service do not do so after this, until the shell ends: policy-rc.d forbids it. */
const noServices = `
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' HUP INT TERM
  printf '#!/bin/sh\\nexit 101\\n' > "$policy" && chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
`;

/**
 * Installs Redis or its successor from the distribution, as root, if it has one that is new enough. Both packages start
 * and enable a system service; Holdfast runs a private one, so the start is forbidden and the service is disabled.
 */
const aptScript = `${noServices}
for package in redis-server valkey-server; do
  candidate=$(apt-cache policy "$package" | sed -n 's/^ *Candidate: //p')
  major=$(echo "$candidate" | sed 's/^[0-9]*://; s/[^0-9].*//')
  [ "\${major:-0}" -ge ${wantedRedisMajor} ] || continue
  ${aptInstall} "$package" || exit 1
  if command -v systemctl > /dev/null; then systemctl disable --now "$package" > /dev/null 2>&1; fi
  exit 0
done
echo "no redis-server or valkey-server of version ${wantedRedisMajor} or newer in the package lists" >&2
exit 1
`;

class SetupError extends Error {}

function say(message) {
  process.stdout.write(`setup: ${message}\n`);
}

function modifiedMs(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs;
}

/** npm writes this file at the end of an install, so it is missing after one that was interrupted. */
function arePackagesCurrent() {
  const installedMs = modifiedMs(join(root, "node_modules", ".package-lock.json"));
  const lockedMs = modifiedMs(join(root, "package-lock.json"));
  return installedMs !== undefined && lockedMs !== undefined && installedMs >= lockedMs;
}

/** The environment without node_modules/.bin: an install must not run on the Node that it is about to replace. */
function outerEnvironment() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const outer = folders.filter((folder) => !folder.endsWith(join("node_modules", ".bin")));
  return { ...process.env, PATH: outer.join(delimiter) };
}

function installPackages() {
  say("installing the npm packages and Node 24 (npm ci); this can take a minute");
  const startedMs = Date.now();
  const npm = process.env.npm_execpath?.endsWith("npm-cli.js") ? ["node", process.env.npm_execpath] : ["npm"];
  // Below "error" npm would warn that some packages want a newer Node: they get one, from this very install.
  const command = [...npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status, error } = run(command, { stdio: "inherit", cwd: root, env: outerEnvironment() });
  if (status !== 0) {
    const how = error === undefined ? `exit code ${status}` : error.message;
    throw new SetupError(
      `npm ci failed (${how}): what it said is above; it needs the npm registry and a writable clone`,
    );
  }
  say(`packages installed in ${Math.round((Date.now() - startedMs) / 1000)} s`);
}

function run([program, ...args], options) {
  return spawnSync(program, args, { encoding: "utf8", ...options });
}

function nodeVersion() {
  const pinned = join(root, "node_modules", ".bin", "node");
  return run([pinned, "--version"]).stdout?.trim();
}

function checkNode() {
  const version = nodeVersion();
  if (version?.startsWith(`v${wantedNodeMajor}.`)) return;
  const found = version ? `is ${version}` : "does not run";
  throw new SetupError(
    `node_modules/.bin/node ${found}, Holdfast needs Node ${wantedNodeMajor}: it comes with the package "node", whose install ` +
      "script must be allowed to run (npm config get ignore-scripts should say false); then run npm ci",
  );
}

function findOnPath(program) {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder || ".", program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

function findRedis() {
  return redisPrograms.map(findOnPath).find(Boolean);
}

function ensureRedis() {
  if (findRedis() === undefined) installRedis();
  const path = findRedis();
  if (path === undefined) throw new SetupError(redisMissing("the installation brought none"));
  const version = /\bv=(\d+)\S*/.exec(run([path, "--version"]).stdout ?? "");
  if (version === null || Number(version[1]) >= wantedRedisMajor) return;
  throw new SetupError(redisMissing(`${path} is version ${version[0].slice(2)}`));
}

function redisMissing(why) {
  return (
    `redis-server ${wantedRedisMajor}.0 or newer is needed, but ${why}: install it (Debian, Ubuntu: apt-get install ` +
    "redis-server; Fedora: dnf install valkey; macOS: brew install redis), or set REDIS_URL to a Redis that runs elsewhere"
  );
}

function installRedis() {
  if (findOnPath("apt-get") !== undefined) installWithApt();
  else if (findOnPath("brew") !== undefined) install("brew", ["brew", "install", "redis"]);
  else throw new SetupError(redisMissing("there is none on the PATH, and neither apt-get nor brew to install it with"));
}

function installWithApt() {
  const shell = ["/bin/sh", "-c", aptScript];
  const quiet = asRoot(shell);
  if (quiet !== undefined) return install("apt-get", quiet);
  if (findOnPath("sudo") === undefined) throw new SetupError(redisMissing("installing it takes root or sudo"));
  if (!process.stdin.isTTY) throw new SetupError(redisMissing("sudo asks for a password"));
  say("redis-server is missing; sudo may ask for your password to install it");
  install("apt-get", ["sudo", ...shell]);
}

/** The command as root without asking for a password; undefined when that cannot be. */
function asRoot(command) {
  if (process.getuid() === 0) return command;
  if (findOnPath("sudo") === undefined) return undefined;
  return run(["sudo", "-n", "true"], { stdio: "ignore" }).status === 0 ? ["sudo", "-n", ...command] : undefined;
}

function install(name, command) {
  say(`redis-server is missing; installing it with ${name}`);
  const { status } = run(command, { stdio: "inherit", env: outerEnvironment() });
  if (status !== 0) throw new SetupError(redisMissing(`installing it with ${name} failed: what it said is above`));
  say("redis-server installed");
}

/** Not needed either: where h2load cannot be installed, the benchmark makes all load itself and says so. */
function tryH2load() {
  if (findOnPath("h2load") !== undefined) return;
  const name = findOnPath("apt-get") !== undefined ? "apt-get" : findOnPath("brew") !== undefined ? "brew" : undefined;
  const shell = `apt-get -qq update && DEBIAN_FRONTEND=noninteractive ${aptInstall} nghttp2-client`;
  const command = name === "brew" ? ["brew", "install", "nghttp2"] : name && asRoot(["/bin/sh", "-c", shell]);
  if (command === undefined) return say("h2load is missing and cannot be installed; the benchmark does without");
  say(`h2load is missing; installing it with ${name}`);
  const { status } = run(command, { stdio: ["ignore", "ignore", "inherit"], env: outerEnvironment() });
  say(status === 0 ? "h2load installed" : "h2load could not be installed; the benchmark does without");
}

/** What callers in other languages need on Debian, by package: whether it is there already. */
const otherCallers = {
  "protobuf-compiler": () => findOnPath("protoc") !== undefined,
  "libprotobuf-dev": () => existsSync("/usr/include/google/protobuf/timestamp.proto"),
  "protobuf-compiler-grpc": () => findOnPath("grpc_python_plugin") !== undefined,
  "python3-grpcio": () => existsSync("/usr/lib/python3/dist-packages/grpc/__init__.py"),
  curl: () => findOnPath("curl") !== undefined,
};

/** What the tests of alerts and dashboards need on Debian. */
const observers = {
  prometheus: () => findOnPath("promtool") !== undefined,
  "prometheus-alertmanager": () => findOnPath("amtool") !== undefined,
};

/** What is not needed to serve: where it cannot be installed, the tests that need it are left out. */
function tryToInstall(packages, tests) {
  if (findOnPath("apt-get") === undefined || process.getuid() !== 0) return;
  const missing = Object.keys(packages).filter((name) => !packages[name]());
  if (missing.length === 0) return;
  const names = missing.join(" ");
  say(`installing with apt-get for the tests of ${tests}: ${names}`);
  // Some of them are services; of the others there is nothing to disable.
  const disable = `command -v systemctl > /dev/null && systemctl disable --now ${names} > /dev/null 2>&1 || true`;
  const { status } = run(["/bin/sh", "-c", `${noServices}${aptInstall} ${names} && { ${disable}; }`], {
    stdio: ["ignore", "ignore", "inherit"],
    env: outerEnvironment(),
  });
  say(status === 0 ? "installed" : "some could not be installed; the tests that need them are left out");
}

function main(part) {
  if (!["packages", "server", "bench", "tests"].includes(part)) throw new SetupError(`unknown part ${part}`);
  if (!existsSync(join(root, "package-lock.json"))) throw new SetupError("package-lock.json is missing");
  if (!arePackagesCurrent()) installPackages();
  checkNode();
  const usesOwnRedis = part === "bench" || part === "tests";
  if (usesOwnRedis || (part === "server" && !process.env.REDIS_URL)) ensureRedis();
  if (part === "bench") tryH2load();
  if (part === "tests") {
    tryToInstall(otherCallers, "callers in other languages");
    tryToInstall(observers, "alerts and dashboards");
  }
}

try {
  main(process.argv[2] ?? "server");
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`setup: ${error.message}\n`);
  process.exitCode = 1;
}
