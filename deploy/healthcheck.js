// The health check of the container: exit code 0 when the HTTP door answers /livez. A store that is away is no reason to
// restart a server, so readiness is not asked. The certificate is not checked: a server asks itself here.
import { get as getHttp } from "node:http";
import { get as getHttps } from "node:https";

const { HOLDFAST_HTTP_ADDR: address = "127.0.0.1:8080", HOLDFAST_TLS_CERT: certificate = "" } = process.env;
const [scheme, get] = certificate === "" ? ["http", getHttp] : ["https", getHttps];
const reachable = address.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:");

function end(isWell) {
  process.exit(isWell ? 0 : 1);
}

get(`${scheme}://${reachable}/livez`, { rejectUnauthorized: false, timeout: 2000 }, (res) =>
  end(res.statusCode === 200),
)
  .on("timeout", () => end(false))
  .on("error", () => end(false));
