# shellcheck shell=sh
# What the recipes share, above all apt; read by them with `.`, not run. The host's own apt configuration says where packages
# come from, and apt checks their signatures. Nothing is installed on the host, and root is not needed.
#
# Exit statuses all recipes share: 2 bad arguments, 3 something is missing on this host, 4 download failed.
LC_ALL=C
export LC_ALL
apt_options="-qq -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0"

apt_get() { apt-get $apt_options "$@"; }
apt_cache() { apt-cache $apt_options "$@"; }
apt_config() { apt-config $apt_options "$@"; }

# fail STATUS MESSAGE: the last line of the build log is what the user is shown.
fail() {
    status=$1
    shift
    echo "$*" >&2
    exit "$status"
}

# need TOOL PACKAGE
need() {
    command -v "$1" >/dev/null || fail 3 "$1 is missing on this host: apt-get install $2"
}

# use_private_lists DIRECTORY: package lists of our own, for hosts where `apt-get update` never ran or ran long ago.
use_private_lists() {
    mkdir -p "$1/apt/lists/partial" "$1/apt/cache/archives/partial"
    apt_options="$apt_options -o Dir::State::Lists=$1/apt/lists -o Dir::Cache=$1/apt/cache"
    apt_get update >&2 || fail 4 "apt-get update failed: check the network and the apt sources of this host"
}

# candidate PACKAGE: the version apt would install, empty for an unknown package.
candidate() {
    apt_cache policy "$1" | sed -n 's/^  Candidate: //p'
}

# own_namespace SCRIPT ARGUMENT...: runs the script again in process and mount name spaces of its own, where that is
# allowed: when it is killed, all it started dies and all it mounted goes away with it.
own_namespace() {
    [ -z "${AURORA_RECIPE_NAMESPACE:-}" ] && unshare --mount --pid --fork true 2>/dev/null || return 0
    AURORA_RECIPE_NAMESPACE=1
    export AURORA_RECIPE_NAMESPACE
    exec unshare --mount --pid --fork --mount-proc --kill-child=KILL sh "$@"
}
