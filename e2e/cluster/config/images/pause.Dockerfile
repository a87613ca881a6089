FROM scratch
COPY --chmod=755 pause /pause
ENTRYPOINT ["/pause"]
