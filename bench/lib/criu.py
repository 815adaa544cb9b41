"""CRIU's dump and restore of the same Redis, in the same guest: CRIU needs a kernel that it knows, and Debian's kernel in the guest is one."""
import json

from . import paper, persisted, redis
from .machine import free_port, wait_for_redis
from .report import summary

IMAGE = "criu"
# CRIU asks the kernel for nf_tables when it starts: the module comes with the kernel's package.
PACKAGES = "redis-server,redis-tools,criu,kmod,linux-image-{kernel}"
MIB = {True: 128, False: 512}
# A process that CRIU dumps has nothing open that another process outside of the dump has, too.
SERVE = "redis-server --bind 0.0.0.0 --protected-mode no --save '' --dir /tmp </dev/null >/dev/null 2>&1 & while :; do sleep 1000; done"
DUMP = """
rm -rf /dev/shm/dump && mkdir /dev/shm/dump && modprobe nf_tables || exit 1
begin=$(date +%s%N)
criu dump -t "$(pidof redis-server)" -D /dev/shm/dump --shell-job --tcp-close -v0 || exit 1
dumped=$(date +%s%N)
criu restore -D /dev/shm/dump --shell-job --restore-detached --tcp-close -v0 </dev/null >/dev/null 2>&1 || exit 1
until redis-cli get key:000000000000 | grep -q .; do :; done
answered=$(date +%s%N)
echo $((dumped - begin)) $((answered - dumped)) $(du -sb /dev/shm/dump | cut -f 1)
crit decode -i /dev/shm/dump/stats-dump
"""


def criu(bench, figures):
    """CRIU's dump to memory and its restore, against Aurora's full checkpoint and restore of the same group."""
    part, mib = "redis_peers", MIB[bench.quick]
    kernel = bench.output([bench.aurora, "run", "--rm", "--image", bench.image(), "--", "uname", "-r"]).strip()
    if IMAGE not in bench.output([bench.aurora, "image", "ls", "-q"]).split():
        bench.run([bench.aurora, "image", "build", IMAGE, "--packages", PACKAGES.format(kernel=kernel)], timeout=1800)
    persisted.fresh_store(bench)
    port = free_port()
    with persisted.group(bench, "criu", "3G", "-p", f"{port}:6379", command=("sh", "-c", SERVE), image=IMAGE) as name:
        wait_for_redis(port)
        redis.fill(port, (mib << 20) // redis.KEY_BYTES)
        dumps, ours = dump(bench, name), checkpoints_and_restores(bench, name)
    quoted = f"{paper.CRIU_STOP_MS} (500 MB)"
    add = lambda what, unit, aurora, peer, paper="": figures.add(  # noqa: E731
        part, f"Redis with {mib} MiB: {what}", unit, summary(aurora), summary(peer), "CRIU in the guest, to memory", paper=paper)
    add("full checkpoint, stop", "ms", [one["stop"] for one in ours], [one["frozen"] for one in dumps], quoted)
    add("full checkpoint, until it is whole", "ms", [one["durable"] for one in ours], [one["whole"] for one in dumps])
    add("restore until the first answered GET", "ms", [one["answered"] for one in ours], [one["answered"] for one in dumps])
    figures.note(part, "CRIU writes one process to the guest's memory and resumes it from there; Aurora writes the whole machine durably to the disk, "
                       "the first time (its worst) all of it, later what the store does not have.")


def dump(bench, name):
    """CRIU's part, several times over: times in milliseconds, with the frozen time of its own statistics."""
    found = []
    for _ in range(bench.rounds(10)):
        first, _, statistics = bench.exec(name, "bash", "-c", DUMP).partition("\n")
        whole, answered, _ = (int(word) for word in first.split())
        frozen = json.loads(statistics)["entries"][0]["dump"]["frozen_time"]
        found.append(dict(whole=whole / 1e6, answered=answered / 1e6, frozen=frozen / 1e3))
    return found


def checkpoints_and_restores(bench, name):
    """Aurora's part: a first checkpoint, which is a full one, and a clone of it, as often."""
    found = []
    for turn in range(bench.rounds(10)):
        full, seconds = persisted.attach_store(bench, name)
        bench.run([bench.aurora, "detach", name, "--backend", "store"])
        port = free_port()
        clone = f"{name}-{turn}"
        restored = persisted.restore(bench, name, clone, [f"{port}:6379"], lambda port=port: redis.answers(port))
        bench.remove(clone)
        found.append(dict(stop=full["stopMicroseconds"] / 1e3, durable=seconds * 1e3, answered=restored["answer"] * 1e3))
    return found
