# The image of milvus-guard: one binary on a base with glibc and nothing else.
#
#   docker build -t milvus-guard .                                       builds everything in the container
#   docker build -t milvus-guard --target runtime-prebuilt .             takes target/release/milvus-guard as it is
#   ... --build-arg BUILD_IMAGE=... --build-arg RUNTIME_IMAGE=...        other bases, for example from a mirror
#
# The binary needs glibc (at least the one it was linked against) and libgcc: the two bases belong together. The same sources
# and bases give the same binary; for the same image, also pass SOURCE_DATE_EPOCH and let the builder rewrite timestamps
# (docker buildx: --output type=image,rewrite-timestamp=true; buildah: --timestamp).
ARG BUILD_IMAGE=rust:1-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG BINARY=target/release/milvus-guard

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
ARG SOURCE_DATE_EPOCH=0
ENV CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never LC_ALL=C.UTF-8 TZ=UTC
# No path of the builder gets into the binary; symbols are stripped by the profile.
RUN export RUSTFLAGS="--remap-path-prefix=/src=/milvus-guard --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo -C link-arg=-Wl,--build-id=none" \
    && cargo build --locked --release --bin milvus-guard \
    && install -D -m 0755 target/release/milvus-guard /out/milvus-guard \
    && touch -d "@${SOURCE_DATE_EPOCH}" /out/milvus-guard

FROM ${RUNTIME_IMAGE} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="milvus-guard" \
      org.opencontainers.image.description="Prevents unsafe Milvus upgrades on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/usr/local/bin/milvus-guard"]
CMD ["--help"]

# What was built outside: BINARY is a path in the build context.
FROM base AS runtime-prebuilt
ARG BINARY
COPY --chown=0:0 --chmod=0755 ${BINARY} /usr/local/bin/milvus-guard

FROM base AS runtime
COPY --from=build --chown=0:0 --chmod=0755 /out/milvus-guard /usr/local/bin/milvus-guard
