#!/usr/bin/env bash
# skopeo cannot turn an image with zstd layers into a docker-archive, whose layers are not compressed at all.
#
# Seen:    skopeo 1.9.3, umoci 0.4.7 (Debian 12), zstd 1.5.4.
# Guessed: `skopeo copy oci:X docker-archive:Y` decompresses each layer on the way, as it does for gzip.
# Is:      it refuses before it looks at a layer: "zstd compression is not supported for docker images". Through a `dir:` copy with
#          `--dest-decompress` and back it works. umoci refuses the media type when it unpacks.
# Matters: what one of three usual tools writes, the next cannot read; `aurora image import oci:` reads it as it is.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get download -qq -o APT::Sandbox::User=root skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 zstd=1.5.4+dfsg2-5 \
    libdevmapper1.02.1 libgpgme11 libassuan0
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$tmp/usr/lib/x86_64-linux-gnu:$tmp/lib/x86_64-linux-gnu
mkdir -p tree layout/blobs/sha256 && echo hello >tree/greeting

# An image layout of one layer by hand, so that only the compression is special.
put() { # FILE -> its digest, in the layout
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    cp "$1" "layout/blobs/sha256/$digest"
    echo "$digest"
}
descriptor() {
    printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d}' "$1" "$2" "$(stat -c %s "layout/blobs/sha256/$2")"
}
tar -C tree -cf layer.tar greeting
difference=$(sha256sum layer.tar | cut -d' ' -f1)
usr/bin/zstd -q layer.tar
layer=$(put layer.tar.zst)
printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$difference" >config
config=$(put config)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
    "$(descriptor config.v1+json "$config")" "$(descriptor layer.v1.tar+zstd "$layer")" >manifest
manifest=$(put manifest)
printf '{"imageLayoutVersion":"1.0.0"}' >layout/oci-layout
printf '{"schemaVersion":2,"manifests":[%s]}' \
    "$(descriptor manifest.v1+json "$manifest" | sed 's/}$/,"annotations":{"org.opencontainers.image.ref.name":"x"}}/')" >layout/index.json

skopeo() { usr/bin/skopeo --insecure-policy "$@"; }
status=0
skopeo copy -q oci:layout:x docker-archive:image.tar >seen 2>&1 || status=$?
cat seen
[ "$status" = 1 ]
grep -q 'zstd compression is not supported for docker images' seen
skopeo copy -q oci:layout:x dir:copied
skopeo copy -q --dest-decompress oci:layout:x dir:plain
skopeo copy -q dir:plain docker-archive:image.tar
echo "by way of a decompressed dir: it works"
status=0
usr/bin/umoci unpack --rootless --image layout:x bundle >seen 2>&1 || status=$?
tail -n 1 seen
[ "$status" = 1 ]
grep -q 'blob is not correct mediatype' seen
