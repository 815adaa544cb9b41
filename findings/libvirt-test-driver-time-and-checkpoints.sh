#!/usr/bin/env bash
# libvirt's test driver: a domain's processor time is the time of day, and snapshots shut checkpoints out.
#
# Seen:    libvirt 9.0.0, python3-libvirt 9.0.0 (Debian 12), connection test:///default.
# Guessed: a domain that was just made has used no processor time, or a made-up small one; snapshot and checkpoint are two features.
# Is:      virDomainGetInfo's cpuTime is the wall clock in nanoseconds since 1970: a monitor that divides its growth by time sees
#          one processor always wholly used, whether the domain runs or is paused. A domain that has a snapshot refuses every
#          checkpoint ("cannot create checkpoint while snapshot exists"); without one it takes a checkpoint.
# Matters: figures of tools that were tested against this driver; and "checkpoint" means something else there than here (a mark for
#          incremental backups of disks, without memory), so an integration has to map our checkpoints to its snapshots.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get download -qq -o APT::Sandbox::User=root python3-libvirt=9.0.0-1 libvirt0=9.0.0-4+deb12u2 \
    libapparmor1 libcurl3-gnutls libgnutls30 libglib2.0-0 libnuma1 libssh-4 libssh2-1 libxml2 libyajl2 libicu72 \
    librtmp1 libldap-2.5-0 libsasl2-2 libpsl5 libnghttp2-14
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$tmp/usr/lib/x86_64-linux-gnu:$tmp/lib/x86_64-linux-gnu PYTHONPATH=$tmp/usr/lib/python3/dist-packages
timeout 60 /usr/bin/python3 - 2>/dev/null <<'END' | tee seen
import time
import libvirt


def tried(call):
    try:
        call()
        return "done"
    except libvirt.libvirtError as error:
        return error.get_error_message().split(": ")[-1]


domain = libvirt.open("test:///default").lookupByName("test")
used = domain.info()[4]
print("processor time is the time of day:", abs(used - time.time_ns()) < 60_000_000_000)
domain.suspend()
before = domain.info()[4]
time.sleep(1)
print("and grows while the domain is paused:", domain.info()[4] - before > 900_000_000)
domain.resume()
print("checkpoint:", tried(lambda: domain.checkpointCreateXML("<domaincheckpoint><name>first</name></domaincheckpoint>")))
domain.checkpointLookupByName("first").delete()
print("snapshot:", tried(lambda: domain.snapshotCreateXML("<domainsnapshot/>")))
print("checkpoint:", tried(lambda: domain.checkpointCreateXML("<domaincheckpoint/>")))
END
diff - seen <<'END'
processor time is the time of day: True
and grows while the domain is paused: True
checkpoint: done
snapshot: done
checkpoint: cannot create checkpoint while snapshot exists
END
