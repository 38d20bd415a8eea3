# bellhop in a container: static, no shell, not root. `make image` fills dist/ first, so the
# build needs no compiler, no network and no base image.
FROM scratch
ARG TARGETARCH=amd64
COPY dist/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY dist/passwd /etc/passwd
COPY dist/helpers/ /usr/lib/bellhop/
COPY dist/linux-${TARGETARCH}/bellhop /bellhop
COPY --chown=65532:65532 dist/state/ /var/lib/bellhop/
COPY --chown=65532:65532 dist/tmp/ /tmp/
USER 65532:65532
ENV HOME=/var/lib/bellhop BELLHOP_STATE_DIR=/var/lib/bellhop
VOLUME /var/lib/bellhop
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/bellhop", "healthcheck"]
ENTRYPOINT ["/bellhop"]
CMD ["serve"]
