#!/bin/sh
# Finds the newest Debian cloud kernel that apt knows, with the headers that belong to it, and unpacks both.
#
#   fetch.sh resolve            prints the release and the packages, one "NAME VERSION" a line, and downloads nothing
#   fetch.sh fetch DIRECTORY    fills DIRECTORY: release, packages, root/ (the unpacked packages)
#
# When the host's package lists are missing or stale, private lists are fetched below DIRECTORY. Exit statuses: apt.sh.
set -eu
. "$(dirname "$0")/../apt.sh"
series=6.1

# Sets release and packages. The headers must be of exactly the kernel's version, or the module would not load.
resolve() {
    packages=
    for image in $(apt_cache pkgnames "linux-image-$series.0-" |
        grep -E "^linux-image-$series\.0-[0-9]+-cloud-amd64\$" | sort -rV); do
        release=${image#linux-image-}
        version=$(candidate "$image")
        common="linux-headers-${release%-cloud-amd64}-common"
        [ -n "$version" ] && [ "$version" != "(none)" ] || continue
        [ "$(candidate "linux-headers-$release")" = "$version" ] || continue
        [ "$(candidate "$common")" = "$version" ] || continue
        kbuild=$(candidate "linux-kbuild-$series")
        packages="$image $version
linux-headers-$release $version
$common $version
linux-kbuild-$series $kbuild"
        return 0
    done
    return 1
}

download() {
    mkdir -p "$1/debs"
    # shellcheck disable=SC2046 # one word a package: names and versions hold no blanks
    set -- "$1" $(echo "$packages" | sed 's/ /=/')
    (cd "$1/debs" && shift && apt_get download "$@" >&2)
}

case "${1:-}" in
resolve)
    [ $# -eq 1 ] || fail 2 "usage: fetch.sh resolve"
    resolve || fail 3 "apt knows no linux-image-$series.0-*-cloud-amd64 package: run apt-get update"
    echo "release $release"
    echo "$packages"
    ;;
fetch)
    [ $# -eq 2 ] || fail 2 "usage: fetch.sh fetch DIRECTORY"
    mkdir -p "$2"
    directory=$(cd "$2" && pwd)
    if ! resolve || ! download "$directory"; then
        use_private_lists "$directory"
        resolve || fail 3 "no linux-image-$series.0-*-cloud-amd64 package in the apt sources of this host"
        download "$directory" || fail 4 "cannot download the kernel packages: check the network"
    fi
    for package in "$directory"/debs/*.deb; do
        dpkg-deb -x "$package" "$directory/root"
    done
    rm -rf "$directory/debs" "$directory/apt"
    echo "$packages" >"$directory/packages"
    echo "$release" >"$directory/release"
    ;;
*)
    fail 2 "usage: fetch.sh resolve | fetch.sh fetch DIRECTORY"
    ;;
esac
