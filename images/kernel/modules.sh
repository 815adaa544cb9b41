#!/bin/sh
# Copies the kernel modules a guest needs, with everything they depend on, out of an unpacked kernel package.
#
#   modules.sh ROOT RELEASE OUTPUT    ROOT/lib/modules/RELEASE -> OUTPUT/*.ko, OUTPUT/list, OUTPUT/extra
#
# list names what every guest loads at boot, in load order; extra what is loaded only when somebody asks for it, in load
# order after list. Dependencies are read from the modules themselves, so that kmod is not needed.
# Exit status: 0 done, 2 bad arguments, 3 a module is missing.
set -eu
LC_ALL=C
export LC_ALL

boot="virtio_mmio virtio_blk virtio_net virtio_console virtio-rng virtio_balloon vmw_vsock_virtio_transport"
extra="overlay fuse loop tun unix_diag tcp_diag udp_diag raw_diag netlink_diag af_packet_diag vsock_diag"

[ $# -eq 3 ] || {
    echo "usage: modules.sh ROOT RELEASE OUTPUT" >&2
    exit 2
}
tree="$1/lib/modules/$2/kernel"
output=$3
mkdir -p "$output"
: >"$output/list"
: >"$output/extra"

# A module's name in "depends" has underscores where its file may have dashes.
find_module() {
    for spelling in "$1" "$(echo "$1" | tr _ -)" "$(echo "$1" | tr - _)"; do
        found=$(find "$tree" -name "$spelling.ko" -type f | head -n 1)
        [ -z "$found" ] || return 0
    done
    echo "kernel $2 has no module $1" >&2
    exit 3
}

# add LIST NAME RELEASE: the module's dependencies first, each module once. Depth first, so that the order is a load order.
add() {
    find_module "$2" "$3"
    grep -qxF "${found##*/}" "$output/list" "$output/extra" && return 0
    for dependency in $(tr '\0' '\n' <"$found" | grep -a '^depends=' | cut -d= -f2 | tr ',' ' '); do
        add "$1" "$dependency" "$3"
    done
    find_module "$2" "$3"
    cp "$found" "$output/"
    echo "${found##*/}" >>"$output/$1"
}

for module in $boot; do add list "$module" "$2"; done
for module in $extra; do add extra "$module" "$2"; done
