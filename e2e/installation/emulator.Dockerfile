# The emulated Bitbucket and the stand-in for Atlassian's runner, in one image.
FROM scratch
COPY --chmod=755 bitbucket-emulator /bitbucket-emulator
COPY --chmod=1777 tmp /tmp
ENTRYPOINT ["/bitbucket-emulator"]
