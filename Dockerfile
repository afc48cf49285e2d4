# A server of Holdfast: Node, the packages that serving needs, and the sources. REDIS_URL and DATABASE_URL have to be given. So has
# who may call (HOLDFAST_JWT_..., HOLDFAST_TLS_CLIENT_CA), because the doors are open to other machines; HOLDFAST_INSECURE=1, as
# here, lets everybody in.
#
#   docker build -t holdfast .
#   docker run -e REDIS_URL -e DATABASE_URL -e HOLDFAST_INSECURE=1 -p 127.0.0.1:50051:50051 -p 127.0.0.1:8080:8080 holdfast

# The version of the package "node" in package.json.
FROM node:24.21.0-bookworm-slim AS packages
WORKDIR /holdfast
COPY package.json package-lock.json .npmrc ./
# The optional packages are the PostgreSQL of npm start. None that is left has anything to set up.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM debian:bookworm-slim
COPY --from=packages /usr/local/bin/node /usr/local/bin/node
WORKDIR /holdfast
COPY --from=packages /holdfast/node_modules ./node_modules
COPY package.json ./
COPY gen ./gen
COPY lua ./lua
COPY src ./src
COPY deploy/healthcheck.js ./deploy/healthcheck.js
ENV NODE_ENV=production HOLDFAST_GRPC_ADDR=0.0.0.0:50051 HOLDFAST_HTTP_ADDR=0.0.0.0:8080
# Nobody: nothing is written, so nothing has to be owned. A number, which Kubernetes can check not to be root.
USER 65534:65534
EXPOSE 50051 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["node", "deploy/healthcheck.js"]
ENTRYPOINT ["node", "src/main.ts"]
CMD ["serve"]
