#!/usr/bin/env bash
# bsdtar fills a ZIP archive with zeros up to whole tar records when it goes to standard output, a regular file included.
#
# Seen:    bsdtar 3.6.2 (Debian 12, libarchive-tools).
# Guessed: blocking belongs to tar and its tapes; `--format zip -f -` writes what `-f NAME` writes.
# Is:      the archive is followed by zeros up to 10,240 bytes. The end of the central directory is then not the end of the file: a reader
#          that searches backwards finds it, a strict one, or one that reads the length from its place, does not.
# Matters: a check that takes only an archive from its first to its last byte refuses it; name the file, or cut it.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get download -qq -o APT::Sandbox::User=root libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$tmp/usr/lib/x86_64-linux-gnu:$tmp/lib/x86_64-linux-gnu
echo hello >greeting
usr/bin/bsdtar --format zip -cf named.zip greeting
usr/bin/bsdtar --format zip -cf - greeting >standard.zip
python3 - <<'END' | tee seen
def after_end(name):
    """Bytes behind the end of the central directory, which has no comment."""
    data = open(name, "rb").read()
    rest = data[data.rindex(b"PK\5\6") + 22 :]
    return len(data), "nothing" if not rest else "zeros" if not any(rest) else "something"


print("named:", after_end("named.zip")[1])
print("standard output:", *after_end("standard.zip"))
END
diff - seen <<'END'
named: nothing
standard output: 10240 zeros
END
