#!/bin/sh
# Runs a program that reads what strangers wrote with as little as it needs.
#
#   confined.sh [--reads-tree] BYTES SECONDS PROGRAM [ARGUMENT...]
#
# The program may write BYTES to a file and use SECONDS of processor time, 2 GiB of address space and 64 descriptors. Under root
# it runs as nobody (65534) without any capability, gains none, has no environment, and is alone in name spaces without a network
# that end with it; so what it was given open is all it has. --reads-tree leaves it one capability: to read files that others own.
# An ordinary user's program stays that user's.
set -eu
kept=
if [ "$1" = --reads-tree ]; then
    kept=,+dac_read_search
    # Containers often have no such capability, but one that allows more.
    effective=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
    [ $((0x$effective & 4)) -ne 0 ] || kept=,+dac_override
    shift
fi
bytes=$1
seconds=$2
shift 2
set -- prlimit --core=0 --fsize="$bytes" --cpu="$seconds" --as=2147483648 --nofile=64 -- "$@"
# Under fakeroot one only seems to be root.
if [ "$(id -u)" -eq 0 ] && [ -z "${FAKEROOTKEY:-}" ]; then
    set -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
        --inh-caps "-all$kept" --ambient-caps "-all$kept" --bounding-set "-all$kept" -- "$@"
    # Where a container allows no name spaces, the rest must do.
    if unshare --pid --net --ipc --uts --fork true 2>/dev/null; then
        set -- unshare --pid --net --ipc --uts --fork --kill-child=KILL -- "$@"
    fi
else
    set -- setpriv --no-new-privs -- "$@"
fi
exec "$@"
