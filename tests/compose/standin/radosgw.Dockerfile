# An S3 server on a disk, for the test: one Ceph monitor, one disk, one gateway.
FROM debian:bookworm-slim
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends radosgw ceph-mon ceph-osd ceph-common dumb-init \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o ceph -g ceph -m 0700 /var/lib/radosgw
COPY radosgw.sh /usr/local/bin/radosgw.sh
USER ceph
WORKDIR /var/lib/radosgw
ENTRYPOINT ["/usr/bin/dumb-init", "--", "radosgw.sh"]
