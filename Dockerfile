# The images of milvus-guard: one static binary, on a base without anything else, or with a shell and Helm for pipelines.
#
#   docker build -t milvus-guard .                                       builds everything in the container
#   docker build -t milvus-guard:ci --target ci .                        the same binary with a shell and Helm, for pipelines
#   docker build -t milvus-guard --target runtime-prebuilt .             takes target/release/milvus-guard as it is
#   ... --target runtime-released, ci-released                           take bin/amd64 and bin/arm64 of a release
#   ... --build-arg BUILD_IMAGE=... --build-arg RUNTIME_IMAGE=...        other bases, for example from a mirror
#
# Bases are pinned by version; .github/dependabot.yml proposes newer ones. The same sources and bases give the same binary; for the
# same image, also pass SOURCE_DATE_EPOCH and let the builder rewrite timestamps (docker buildx: --output
# type=image,rewrite-timestamp=true; buildah: --timestamp). A binary that was linked against glibc needs a RUNTIME_IMAGE that has it,
# such as gcr.io/distroless/cc-debian12:nonroot.
ARG BUILD_IMAGE=rust:1.95.0-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot
ARG CI_IMAGE=alpine/helm:3.19.0
ARG BINARY=target/release/milvus-guard

FROM ${BUILD_IMAGE} AS tools
RUN apt-get update -q && apt-get install -y -q --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
ENV CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never LC_ALL=C.UTF-8 TZ=UTC

# The manifests of the workspace with empty sources. Its content changes with a manifest only, so what is built from it is cached.
FROM tools AS manifests
COPY . .
RUN release/manifests.sh

FROM tools AS dependencies
COPY --from=manifests /src /src
RUN release/compile.sh

FROM dependencies AS build
COPY . .
ARG SOURCE_DATE_EPOCH=0
# Cargo compares times: sources must be younger than what was built from the empty ones.
RUN find src crates -name '*.rs' -exec touch {} + && release/compile.sh \
    && install -D -m 0755 "target/$(uname -m)-unknown-linux-musl/release/milvus-guard" /out/milvus-guard \
    && touch -d "@${SOURCE_DATE_EPOCH}" /out/milvus-guard

FROM ${RUNTIME_IMAGE} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="milvus-guard" \
      org.opencontainers.image.description="Prevents unsafe Milvus upgrades on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/usr/local/bin/milvus-guard"]
CMD ["--help"]

# GitLab's runner and others need a shell, and no entrypoint.
FROM ${CI_IMAGE} AS ci-base
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="milvus-guard for pipelines" \
      org.opencontainers.image.description="milvus-guard with a shell and Helm" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT []
CMD ["/bin/sh"]

FROM ci-base AS ci-released
ARG TARGETARCH
COPY --chown=0:0 --chmod=0755 bin/${TARGETARCH}/milvus-guard /usr/local/bin/milvus-guard

FROM ci-base AS ci
COPY --from=build --chown=0:0 --chmod=0755 /out/milvus-guard /usr/local/bin/milvus-guard

FROM base AS runtime-released
ARG TARGETARCH
COPY --chown=0:0 --chmod=0755 bin/${TARGETARCH}/milvus-guard /usr/local/bin/milvus-guard

# What was built outside: BINARY is a path in the build context.
FROM base AS runtime-prebuilt
ARG BINARY
COPY --chown=0:0 --chmod=0755 ${BINARY} /usr/local/bin/milvus-guard

FROM base AS runtime
COPY --from=build --chown=0:0 --chmod=0755 /out/milvus-guard /usr/local/bin/milvus-guard
