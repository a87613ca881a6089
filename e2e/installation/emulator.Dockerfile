# The emulated Bitbucket and the stand-in for Atlassian's runner, in one image. Like the runner
# that it stands for, the stand-in is root.
FROM scratch
ARG VERSION=dev
ARG COMMIT=
ARG DATE=
LABEL org.opencontainers.image.title="bitbucket-emulator" \
      org.opencontainers.image.description="Bitbucket's runners and pipelines in memory, and a stand-in runner, for tests" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${DATE}"
COPY --chmod=755 bitbucket-emulator /bitbucket-emulator
COPY --chmod=1777 tmp /tmp
ENTRYPOINT ["/bitbucket-emulator"]
