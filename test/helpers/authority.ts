import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A certificate with its key, as files and in PEM. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** A CA of the test's own. */
export interface Authority {
  readonly folder: string;
  readonly caFile: string;
  readonly ca: Buffer;
  /** Makes a certificate with alternative names as openssl writes them: `DNS:localhost,URI:shop:berlin`. */
  issue(name: string, alternativeNames: string): Certificate;
  /** Removes all files. */
  remove(): void;
}

const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** Makes a CA in a temporary folder. */
export function createAuthority(name = "ca"): Authority {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-ca-"));
  const run = (args: string[]): void => void execFileSync("openssl", args, { cwd: folder, stdio: "pipe" });
  run(["req", "-x509", ...newKey, "-days", "1", "-keyout", "ca.key", "-out", "ca.pem", "-subj", `/CN=${name}`]);
  return {
    folder,
    caFile: join(folder, "ca.pem"),
    ca: readFileSync(join(folder, "ca.pem")),
    issue: (commonName, alternativeNames) => {
      const files = { certFile: join(folder, `${commonName}.pem`), keyFile: join(folder, `${commonName}.key`) };
      writeFileSync(
        join(folder, "extensions"),
        `basicConstraints=critical,CA:FALSE\nsubjectAltName=${alternativeNames}\n`,
      );
      // In two steps, because that is how every openssl can do it.
      run(["req", "-new", ...newKey, "-subj", `/CN=${commonName}`, "-keyout", files.keyFile, "-out", "request.pem"]);
      run([
        ...["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"],
        ...["-days", "1", "-extfile", "extensions", "-out", files.certFile],
      ]);
      return { ...files, cert: readFileSync(files.certFile), key: readFileSync(files.keyFile) };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
