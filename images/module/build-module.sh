#!/bin/sh
# Builds aurora.ko against unpacked Debian kernel headers, without installing them and without root.
#
#   build-module.sh ROOT RELEASE SOURCE OUTPUT    ROOT holds the unpacked header packages, SOURCE aurora.c, limits.h and Kbuild
#
# Exit status: 0 done, 2 bad arguments, 3 a tool is missing, else make's.
set -eu
LC_ALL=C
export LC_ALL

[ $# -eq 4 ] || {
    echo "usage: build-module.sh ROOT RELEASE SOURCE OUTPUT" >&2
    exit 2
}
root=$(cd "$1" && pwd)
headers="$root/usr/src/linux-headers-$2"
common="$root/usr/src/linux-headers-${2%-cloud-amd64}-common"
for tool in make gcc-12 ld strip; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing: apt-get install make gcc-12 binutils" >&2
        exit 3
    }
done

# The headers' own Makefile includes the common tree by its installed place.
echo "include $common/Makefile" >"$headers/Makefile"
build=$(mktemp -d "$root/module-XXXXXX")
cp "$3/aurora.c" "$3/limits.h" "$build"
cp "$3/Kbuild" "$build/Kbuild"
make -C "$headers" M="$build" modules >&2
# Debug information is four fifths of the file, and it would travel in every guest's initramfs.
strip --strip-debug -o "$4" "$build/aurora.ko"
rm -rf "$build"
