# Two images of one build: docker build --target server -t danmu-server . (and --target operator).
# Static, from scratch, as nobody; `cargo xtask image` makes the same without Docker.

FROM node:22-bookworm-slim AS page
WORKDIR /page
COPY server/web/package.json server/web/package-lock.json ./
RUN npm ci
COPY server/web .
RUN npm run build

FROM rust:1.95.0-bookworm AS build
WORKDIR /danmu
COPY . .
COPY --from=page /page/dist server/web/dist
# Linked statically against glibc, whose allocator is what the benchmarks were made with.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/danmu/target \
    triple=$(uname -m)-unknown-linux-gnu \
    && cargo build --release --locked --target "$triple" --package danmu-server --package danmu-operator \
    && mkdir /built \
    && cp "target/$triple/release/danmu-server" "target/$triple/release/danmu-operator" /built/

FROM scratch AS base
LABEL org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/danmu-live/danmu"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
WORKDIR /
# Nothing is written: the root may be read-only.
USER 65532:65532

FROM base AS operator
LABEL org.opencontainers.image.title="Danmu's operator"
COPY --from=build /built/danmu-operator /
EXPOSE 8081
ENTRYPOINT ["/danmu-operator"]

FROM base AS server
LABEL org.opencontainers.image.title="Danmu's room server"
COPY --from=build /built/danmu-server /
EXPOSE 8080 9090
ENTRYPOINT ["/danmu-server"]
