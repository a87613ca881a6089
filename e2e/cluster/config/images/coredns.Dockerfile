FROM scratch
COPY passwd /etc/passwd
COPY --chmod=755 coredns /coredns
ENTRYPOINT ["/coredns"]
