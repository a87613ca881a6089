# The scaler and the sidecar, one image, nothing else in it: both are static, and
# bring their root certificates along. `make image` builds them first, into
# bin/linux/$(GOARCH), and passes the arguments. A release has the same image for
# several platforms, see docs/releasing.md.
FROM scratch
ARG TARGETARCH
ARG VERSION=dev
ARG COMMIT=
ARG DATE=
LABEL org.opencontainers.image.title="bitbucket-runner-scaler" \
      org.opencontainers.image.description="control plane and sidecar for self-hosted runners of Bitbucket Pipelines on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${DATE}"
COPY --chmod=755 bin/linux/${TARGETARCH}/scaler bin/linux/${TARGETARCH}/sidecar /
USER 65532:65532
ENTRYPOINT ["/scaler"]
