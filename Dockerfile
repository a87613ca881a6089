# The scaler and the sidecar, one image, nothing else in it: both are static, and
# bring their root certificates along. `make image` builds them first, into
# bin/linux/$(GOARCH), and passes TARGETARCH.
FROM scratch
ARG TARGETARCH
COPY bin/linux/${TARGETARCH}/scaler bin/linux/${TARGETARCH}/sidecar /
USER 65532:65532
ENTRYPOINT ["/scaler"]
