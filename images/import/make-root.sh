#!/bin/sh
# Turns a tree of files that somebody else made into one raw ext4 file.
#
#   make-root.sh TREE FILE SIZE INODES UUID CREATED    CREATED: a time as in image configurations, or empty
#
# Nothing in the tree is followed, run or interpreted; mke2fs, which reads all of it, is confined. Exit statuses: 2 bad arguments,
# 3 something is missing, 6 mke2fs failed.
set -eu
. "$(dirname "$0")/../apt.sh"
[ $# -eq 6 ] || fail 2 "usage: make-root.sh TREE FILE SIZE INODES UUID CREATED"
need mke2fs e2fsprogs
seconds_max=3600

# No file is newer than the image, so that two imports of one image agree.
epoch=$(date -d "$6" +%s 2>/dev/null) || epoch=0
[ -n "$6" ] && [ "$epoch" -gt 0 ] || epoch=0
find "$1" -newermt "@$epoch" -exec touch -h -d "@$epoch" {} +
truncate -s "$3" "$2"
# Who is confined owns the file for as long as it is made; everything above it stays closed to others.
owner=$(stat -c %u:%g "$2")
[ "$(id -u)" -ne 0 ] || [ -n "${FAKEROOTKEY:-}" ] || chown 65534:65534 "$2"
# As for images of packages: no reserved blocks, a small journal, nothing left for the guest's kernel to initialise.
sh "$(dirname "$0")/../confined.sh" --reads-tree "$3" "$seconds_max" env E2FSPROGS_FAKE_TIME="$epoch" mke2fs -q -F -t ext4 -b 4096 \
    -N "$4" -m 0 -J size=16 -U "$5" -E "hash_seed=$5,root_owner=0:0,lazy_journal_init=1" -L aurora -d "$1" "$2" >&2 ||
    fail 6 "cannot make the ext4 file"
chown "$owner" "$2"
