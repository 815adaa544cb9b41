#!/bin/sh
# Builds a root file system of Debian packages as one raw ext4 file.
#
#   build-image.sh DIRECTORY SIZE [PACKAGE...] [--pip REQUIREMENT...]
#
# fills DIRECTORY: root.ext4 (sparse, SIZE bytes), packages, pip. packages and pip list what is installed, one "NAME VERSION" a
# line. What is asked for with --pip comes as wheels from where this host's pip gets them, for the image's own Python (a package
# that brings it must be among the packages); nothing of it is run while the image is built, but for the translation to byte
# code, which the image's Python does. Root uses mmdebstrap's root mode; an ordinary user its unshare mode, and fakeroot to keep
# the owners of files. The result depends on the state of the archive and on the arguments; the time stamps of the ext4 file do
# not repeat. Lines that begin with "I: ", mmdebstrap's among them, say what is being done. Exit statuses: apt.sh; 5 mmdebstrap
# failed or a package is not known, 6 mke2fs failed, 7 pip failed.
set -eu
. "$(dirname "$0")/../apt.sh"
umask 022
suite=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

[ $# -ge 2 ] || fail 2 "usage: build-image.sh DIRECTORY SIZE [PACKAGE...]"
directory=$(cd "$1" && pwd)
size=$2
shift 2
own_namespace "$0" "$directory" "$size" "$@"
need mmdebstrap mmdebstrap
need mke2fs e2fsprogs
case " $* " in
*" --pip "*) python3 -m pip --version >/dev/null 2>&1 || fail 3 "pip is missing on this host: apt-get install python3-pip" ;;
esac
[ -r "$keyring" ] || fail 3 "$keyring is missing on this host: apt-get install debian-archive-keyring"

# The host's sources of this Debian release and nothing else it may have (third-party repositories, other releases).
debian_sources() {
    apt_get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT) # $(ORIGIN)' "Created-By: Packages" |
        grep -E "^deb [^ ]+ $suite(-updates|-security)? .* # Debian\$" | sed 's/ # Debian$//' | sort -u
}

sources=$(debian_sources || true)
if [ -z "$sources" ]; then
    use_private_lists "$directory"
    sources=$(debian_sources || true)
    [ -n "$sources" ] || fail 3 "the apt sources of this host name no Debian $suite archive"
fi

# known REQUEST: whether apt's lists have the package, and the version if one is asked for; for a virtual package, one that provides it.
known() {
    name=${1%%=*}
    version=${1#"$name"}
    apt_cache showpkg "$name" 2>/dev/null | awk -v version="${version#=}" '
        /^Versions:/ { part = 1; next }
        /^Reverse Provides:/ { part = 2; next }
        /^[A-Z]/ { part = 0 }
        part == 1 && NF > 0 && (version == "" || $1 == version) { found = 1 }
        part == 2 && NF > 0 && version == "" { found = 1 }
        END { exit !found }'
}

# Where apt keeps its lists.
directory_of_lists() { apt_config shell lists Dir::State::lists/d | sed "s/^lists='//; s/'\$//"; }

# unknown_packages REQUEST...: those that apt's lists do not have, up to --pip.
unknown_packages() {
    for request in "$@"; do
        [ "$request" != --pip ] || return 0
        known "$request" || echo "$request"
    done
}

# A wrong name is told before anything is fetched. Old lists may lack what is new: then today's are asked.
if [ -n "$(unknown_packages "$@")" ]; then
    if [ -z "$(find "$(directory_of_lists)" -maxdepth 1 -name "*$suite*_InRelease" -cmin -1440 2>/dev/null)" ]; then
        echo "I: asking apt for today's lists..." >&2
        use_private_lists "$directory"
    fi
    unknown=$(unknown_packages "$@" | tr '\n' ' ')
    [ -z "$unknown" ] || fail 5 "E: Unable to locate package ${unknown% } in Debian $suite"
fi

# Every file is dated no later than the archive itself, so that two builds from one state agree.
lists=$(directory_of_lists)
SOURCE_DATE_EPOCH=$(sed -n 's/^Date: //p' "$lists"*"$suite"*_InRelease 2>/dev/null |
    while read -r date; do date -d "$date" +%s; done | sort -n | tail -n 1)
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"

mode=root
as_owner=
if [ "$(id -u)" -ne 0 ]; then
    need fakeroot fakeroot
    need newuidmap uidmap
    user=$(id -un)
    grep -q "^$user:" /etc/subuid ||
        fail 3 "$user has no sub-ids: run as root, or usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user"
    mode=unshare
    as_owner=fakeroot
else
    # Beside the result: a full disk is then found, and cleaned up, in one place. (Other users' name spaces may not look in.)
    TMPDIR=$directory
    export TMPDIR
fi

include=
while [ $# -gt 0 ] && [ "$1" != --pip ]; do
    include=${include:+$include,}$1
    shift
done
[ $# -eq 0 ] || shift
# Requirements hold no blanks: the caller has checked them.
requirements=$*
# The image every host has also checks and repairs the disks of others (e2fsck, in a machine of its own), and runs functions that are
# shell scripts (bash, which is there anyway, and curl).
[ -n "$include" ] || include=e2fsprogs,curl

# fetch_wheels VERSION: below a directory of their own, as what pip leaves there is what is copied, by whoever owns the files.
fetch_wheels() {
    echo "I: fetching Python packages..." >&2
    rm -rf "$directory/wheels"
    set -f
    # shellcheck disable=SC2086 # one word a requirement
    python3 -m pip install --quiet --no-input --disable-pip-version-check --no-compile --no-warn-conflicts --only-binary :all: \
        --implementation cp --python-version "$1" --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
        --platform any --target "$directory/wheels" $requirements >&2 || fail 7 "pip cannot install $requirements"
    set +f
}

# Wrong names are told before anything else is done here, too.
expected=
if [ -n "$requirements" ]; then
    expected=$(apt_cache policy python3 | sed -n 's/^  Candidate: \(3\.[0-9]*\)\..*/\1/p')
    [ -z "$expected" ] || fetch_wheels "$expected"
fi

proxy=$(apt_config dump Acquire::http::Proxy | sed -n 's/^\(Acquire::http::Proxy "[^"]*"\);$/\1/p')
# Documentation is left out, but not the directories for it: installation scripts put links there (Java's, for the manual pages that
# it keeps elsewhere).
manual=/usr/share/man
keep_directories='for part in man/man1 man/man2 man/man3 man/man4 man/man5 man/man6 man/man7 man/man8 man/man9 info doc locale lintian bug
do mkdir -p "$1/usr/share/$part"; done'
echo "$sources" | mmdebstrap --mode="$mode" --variant=apt --format=tar --keyring="$keyring" \
    --include="$include" ${proxy:+--aptopt="$proxy"} --setup-hook="$keep_directories" \
    --dpkgopt="path-exclude=$manual/*" --dpkgopt="path-include=$manual/man[1-9]" --dpkgopt="path-include=$manual/*/man[1-9]" \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/locale/locale.alias' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/lintian/*' --dpkgopt='path-exclude=/usr/share/bug/*' \
    "$suite" "$directory/root.tar" - >&2 || fail 5 "mmdebstrap failed"

# One fakeroot session: owners that tar restores have to be the ones mke2fs reads.
mkdir "$directory/root"
: >"$directory/pip"

# The wheels for the image's own Python, which is nearly always the one that apt's lists have.
if [ -n "$requirements" ]; then
    version=$(tar -tf "$directory/root.tar" | sed -n 's|^\./usr/bin/python\(3\.[0-9]*\)$|\1|p' | head -n 1)
    [ -n "$version" ] || fail 7 "the image has no Python for pip's packages: add python3 to --packages"
    [ "$version" = "$expected" ] || fetch_wheels "$version"
    ls "$directory/wheels" | sed -n 's/^\(.*\)-\([^-]*\)\.dist-info$/\1 \2/p' | sort >"$directory/pip"
    target=usr/local/lib/python$version/dist-packages
    export version target
fi
export directory size
echo "I: making the root file system..." >&2
$as_owner sh -eu <<'SESSION' || fail 6 "cannot make the ext4 file"
tar -C "$directory/root" --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*' -xpf "$directory/root.tar"
rm "$directory/root.tar"
chmod 755 "$directory/root"
cd "$directory/root"
if [ -d "$directory/wheels" ]; then
    mkdir -p "$target"
    cp -a "$directory/wheels/." "$target/"
    chown -R 0:0 "$target"
    # Checked against nothing at run time: the dates of the files change below. An ordinary user cannot enter the tree; its Python
    # translates at every start then.
    if [ "$(id -u)" = 0 ] && chroot . /usr/bin/true 2>/dev/null; then
        chroot . "/usr/bin/python$version" -m compileall -q --invalidation-mode unchecked-hash "/$target" >&2 || true
    fi
fi
echo aurora >etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 aurora\n::1 localhost ip6-localhost ip6-loopback\n' >etc/hosts
# The host's end of the group's private link; see the network of a group in the design notes.
rm -f etc/resolv.conf
echo "nameserver 172.30.0.1" >etc/resolv.conf
mkdir -p proc sys dev run tmp
chmod 1777 tmp
dpkg-query --admindir=var/lib/dpkg -W -f '${Package} ${Version}\n' >"$directory/packages"
# The same contents get the same UUID, so that a rebuild that changes nothing also looks like nothing changed.
uuid=$(sha256sum "$directory/packages" | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/\1-\2-\3-\4-\5/')
find . -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
truncate -s "$size" "$directory/root.ext4"
# No reserved blocks; a small journal, as every block it cycles through is a block of every checkpoint. The discard that
# mke2fs does first leaves holes, so that the guest's kernel has no inode tables to zero in the background.
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -F -t ext4 -b 4096 -m 0 -J size=16 -U "$uuid" \
    -E "hash_seed=$uuid,root_owner=0:0,lazy_journal_init=1" -L aurora -d "$directory/root" "$directory/root.ext4"
SESSION
rm -rf "$directory/root" "$directory/apt" "$directory/wheels"
