/** How Node calls a certificate of a CA that it does not know. */
const codes: readonly unknown[] = [
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
];

/** What an error says; of a certificate whose CA is not known, with the setting that makes it known. */
export function tellCertificate(error: Error): string {
  if (!codes.includes((error as { code?: unknown }).code)) return error.message;
  const [what] = error.message.split("; "); // Node's own advice is behind it, for programs that are run by hand.
  return `${what} (name the file of its CA with NODE_EXTRA_CA_CERTS)`;
}
