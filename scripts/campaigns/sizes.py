"""Groups of all sizes, idle and busy: checkpoints are made as promised, or the group says that they are not."""
import time

from aurora import Failure, Group, aurora

SIZES = ["64M", "256M", "1G", "4G", "8G", "16G"]
PROGRAMS = {
    "idle": ["sleep", "infinity"],
    # A MiB of memory, again and again.
    "busy": ["sh", "-c", "while :; do dd if=/dev/urandom of=/dev/shm/x bs=64k count=16 conv=notrunc status=none; sleep 0.01; done"],
}
LAG_MS_MAX = 100
RATE_SHARE_MIN = 0.9
# Who is not checkpointed as promised says so within a second; a look may come late on a busy host.
UNTOLD_MS_MAX = 2000
BAD = {"starting", "slow", "late", "noRoom", "failed"}
LOOK_SECONDS = 0.1


def sizes(source, arguments, say):
    """So many seconds of each size and program."""
    figures, failures = {}, []
    for program, words in PROGRAMS.items():
        for size in arguments.sizes.split(","):
            found = _one(Group(f"campaign-sizes-{source.randrange(1 << 32):08x}"), arguments, words, size)
            say(f"sizes: {program} {size}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
            failures += [f"{program} {size}: {text}" for text in _faults(found, arguments.strict)]
            figures.update({f"{program} {size} {key}": value for key, value in found.items()})
    if failures:
        raise Failure("; ".join(failures))
    return figures


def _one(group, arguments, words, size):
    try:
        group.start(words, memory=size, options=("--period", arguments.period))
        first = _timed_checkpoint(group)
        (begin, begun), lags, told, untold = (group.persistence()[0], time.monotonic()), [], 0, 0
        while time.monotonic() - begun < arguments.rounds:
            time.sleep(LOOK_SECONDS)
            report = group.persistence()[2]
            lags.append(report["durabilityLagMilliseconds"])
            if report["health"]["state"] in BAD:
                told += 1
            else:
                untold = max(untold, lags[-1])
        rate, promised = (group.persistence()[0] - begin) / (time.monotonic() - begun), report["period"]
        lags.sort()
        return {
            "period": promised, "first checkpoint s": first, "rate": round(rate, 1), "lag ms median": round(lags[len(lags) // 2], 1),
            "lag ms p99": round(lags[int(len(lags) * 0.99)], 1), "lag ms max": round(lags[-1], 1), "looks": len(lags),
            "looks that told of lateness": told, "lag ms untold": round(untold, 1), "checkpoint s": _timed_checkpoint(group),
        }
    except (Failure, OSError) as error:
        raise Failure(f"{size}: {error!r}\n{group.tails()}") from error
    finally:
        group.remove()


def _timed_checkpoint(group):
    begun = time.monotonic()
    aurora("checkpoint", group.name, "--timeout", 120)
    return round(time.monotonic() - begun, 2)


def _faults(found, is_strict):
    """What must hold on any host, and what a calm one must reach."""
    if found["lag ms untold"] > UNTOLD_MS_MAX:
        yield f"its health was good with a lag of {found['lag ms untold']} ms"
    if found["rate"] <= 0:
        yield "no checkpoint was made"
    if is_strict and found["lag ms p99"] > LAG_MS_MAX:
        yield f"a lag of {found['lag ms p99']} ms"
    if is_strict and found["period"] == "10ms" and found["rate"] < 100 * RATE_SHARE_MIN:
        yield f"{found['rate']} checkpoints a second"
