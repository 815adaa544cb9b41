#!/usr/bin/env bash
# A zstd:chunked container layer is 512 bytes to one call of python-zstandard, and whole to another.
#
# Seen:    buildah 1.28.2 (Debian 12) `push --compression-format zstd:chunked`, zstandard 0.25.0 (PyPI), zstd 1.5.4 (Debian 12).
# Guessed: one layer, one content; a reader that cannot cope with many frames says so.
# Is:      such a layer is a zstd frame for about each file, with skippable frames at its end. ZstdDecompressor.decompress() returns the
#          first frame, a single tar header of 512 bytes, and no error; stream_reader() of the same object and the zstd program read all.
#          (The annotations are io.containers.zstd-chunked.*, not io.github.containers.*.)
# Matters: an importer that takes the first call unpacks an empty directory and is content. Digests of the content catch it.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "buildah needs root here"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get download -qq -o APT::Sandbox::User=root buildah=1.28.2+ds1-3+deb12u1+b3 zstd=1.5.4+dfsg2-5 libdevmapper1.02.1 libgpgme11 libassuan0
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$tmp/usr/lib/x86_64-linux-gnu:$tmp/lib/x86_64-linux-gnu STORAGE_DRIVER=vfs
mkdir -p tree && for i in 1 2 3 4 5 6; do head -c 30000 /dev/urandom >"tree/file$i"; done
buildah() { usr/bin/buildah --root "$tmp/storage" --runroot "$tmp/run" "$@"; }
printf '{"default":[{"type":"insecureAcceptAnything"}]}' >policy.json
container=$(buildah from scratch)
buildah copy -q "$container" tree / >/dev/null
image=$(buildah commit -q --signature-policy policy.json "$container")
buildah push -q --signature-policy policy.json --compression-format zstd:chunked "$image" "oci:$tmp/layout:x"
unset LD_LIBRARY_PATH
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check zstandard==0.25.0
venv/bin/python - <<'END' | tee seen
import io, json, subprocess, zstandard


def blob(digest):
    return open("layout/blobs/" + digest.replace(":", "/"), "rb").read()


index = json.load(open("layout/index.json"))
layer = json.loads(blob(index["manifests"][0]["digest"]))["layers"][0]
print(layer["mediaType"], sorted(name.rsplit(".", 1)[0] for name in layer["annotations"])[0])
data = blob(layer["digest"])
whole = len(subprocess.run(["usr/bin/zstd", "-dc"], input=data, capture_output=True, check=True).stdout)
print("decompress:", len(zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 24)))
print("stream_reader is whole:", len(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()) == whole > 180000)
END
diff - seen <<'END'
application/vnd.oci.image.layer.v1.tar+zstd io.containers.zstd-chunked
decompress: 512
stream_reader is whole: True
END
