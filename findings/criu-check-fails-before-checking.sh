#!/usr/bin/env bash
# Debian 12's CRIU does not start on a recent kernel, so that `criu check` says nothing of what the kernel lacks.
#
# Seen:    criu 3.17.1-2+deb12u2 on Linux 6.18.44, x86-64.
# Guessed: simple processes can be dumped; at worst `criu check` names the missing features, and a restore fails at the vDSO.
# Is:      every action, `check` included, ends while CRIU looks at its own vDSO ("Unexpected rt vDSO area bounds"): the kernel has
#          put one more special mapping beside it since. No option gets past that.
# Matters: a comparison with CRIU has to bring a kernel of its own (bench/ runs it in a guest with Debian's 6.1).
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "criu needs root"; exit 77; }
case "$(uname -r)" in [1-5].* | 6.[0-9].* | 6.1[0-2].*) echo "this kernel ($(uname -r)) is old enough for it"; exit 77 ;; esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get download -qq -o APT::Sandbox::User=root criu=3.17.1-2+deb12u2 libnftables1 libnftnl11 libprotobuf-c1 libnl-3-200 libnet1 \
    libxtables12 libmnl0 libjansson4 libbsd0 libgnutls30 libedit2
for package in *.deb; do dpkg -x "$package" .; done
status=0
LD_LIBRARY_PATH=$tmp/usr/lib/x86_64-linux-gnu:$tmp/lib/x86_64-linux-gnu usr/sbin/criu check >seen 2>&1 || status=$?
cat seen
echo "exit status $status"
[ "$status" = 1 ]
grep -q 'Unexpected rt vDSO area bounds' seen
! grep -q 'Looks good' seen
