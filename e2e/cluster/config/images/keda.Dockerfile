FROM scratch
COPY passwd /etc/passwd
COPY --chmod=1777 empty /tmp
COPY --chmod=755 keda keda-adapter keda-admission-webhooks /
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/keda"]
