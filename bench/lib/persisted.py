"""Groups that are checkpointed: started, watched, killed and restored for the benchmarks."""
import contextlib
import datetime
import json
import os
import signal
import subprocess
import threading
import time

from .machine import Failure
from .report import summary

# Parts of a stop as `aurora history` names them.
PARTS = ("pause", "state", "copy", "volumes", "resume")


def fresh_store(bench):
    """Begins a part with an empty store of its own; answers its path."""
    path = bench.work / "store"
    path.unlink(missing_ok=True)
    os.environ["AURORA_STORE"] = str(path)
    return path


def allocated(path):
    """Bytes of the disk that a file takes."""
    return os.stat(path).st_blocks * 512


def drop_cache(path):
    """Writes a file back and drops its pages from the page cache: this file's alone."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def group(bench, name, memory, *options, command=("sleep", "100000"), verb="run", image=None):
    """A detached group that is removed at the end, its history too."""
    full_name = f"bench-{os.getpid()}-{name}"
    bench.groups.append(full_name)
    bench.run([bench.aurora, verb, "-d", "--name", full_name, "--image", image or bench.image(), "--memory", memory, *options, "--", *command])
    try:
        yield full_name
    finally:
        bench.remove(full_name)


def set_period(bench, name, period):
    """How often a running group is checkpointed; `off` for by hand only."""
    bench.run([bench.aurora, "attach", name, "--period", period])


def wait_for_backend(bench, name, seconds=60):
    """Returns when a group that was just started has its backend: the first one of a store imports the image."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if bench.status(name).get("backends"):
            return
        time.sleep(0.05)
    raise Failure(f"{name} has no backend after {seconds} s")


def checkpoint(bench, name):
    """One checkpoint by hand: its number, once it is durable."""
    return json.loads(bench.output([bench.aurora, "checkpoint", "--format", "json", name]))["number"]


def attach_store(bench, name):
    """Makes a running group a persisted one. Answers its first checkpoint, a full one, and the seconds until that was durable."""
    begin = time.monotonic()
    bench.run([bench.aurora, "attach", name, "--period", "off", "--backend", "store"])
    number = checkpoint(bench, name)
    seconds = time.monotonic() - begin
    entries = history(bench, name, 0)
    # The stream begins with the image's checkpoint; the full one is the one that was just taken.
    full = [entry for entry in entries if entry["number"] == number]
    if not full:
        raise Failure(f"aurora history {name} does not list checkpoint {number}")
    return full[0], seconds


def history(bench, name, limit):
    """The latest checkpoints of a group; zero for all."""
    return json.loads(bench.output([bench.aurora, "history", "--format", "json", "-n", str(limit), name]))


# The store keeps every checkpoint of the last 512; of older ones only some, which would count for more than they should.
WATCHED_MAX = 500


def watch(bench, name, action, period):
    """The checkpoints that a group makes at some period during an action: (the last entries, checkpoints a second, the action's answer)."""
    before = checkpoint(bench, name)
    set_period(bench, name, period)
    begin = time.monotonic()
    answer = action()
    seconds = time.monotonic() - begin
    if period != "off":
        set_period(bench, name, "off")
    after = checkpoint(bench, name)
    # The two taken by hand are no part of it.
    first = max(before, after - 1 - WATCHED_MAX)
    entries = [entry for entry in history(bench, name, WATCHED_MAX + 1) if first < entry["number"] < after]
    return entries, (after - before - 1) / seconds, answer


def add_stops(figures, part, name, entries, paper=None, goal="", split=True):
    """Lines for the stop and its parts."""
    stops = [entry["stopMicroseconds"] for entry in entries if entry["stopMicroseconds"] is not None]
    if not stops:
        raise Failure(f"{name}: no checkpoints were made")
    figures.add(part, f"{name}: stop", "us", summary(stops), paper=f"{paper['stop']:g}" if paper else "", goal=goal)
    if split:
        for key in PARTS:
            values = [entry["parts"][key] for entry in entries if entry.get("parts")]
            if values:
                quoted = f"{paper[key]:g}" if paper and key in paper else ""
                figures.add(part, f"{name}: of that {key}", "us", summary(values), paper=quoted)


def points(entries):
    """Stop times over time, for the plot."""
    if not entries:
        return []
    times = [datetime.datetime.fromisoformat(entry["time"].replace("Z", "+00:00")).timestamp() for entry in entries]
    return [(moment - times[0], entry["stopMicroseconds"]) for moment, entry in zip(times, entries) if entry["stopMicroseconds"]]


def kill(bench, name):
    """Ends the group's VMM as a crash would."""
    process = bench.process_id(name)
    os.kill(process, signal.SIGKILL)
    while os.path.exists(f"/proc/{process}/exe"):
        time.sleep(0.01)


class FirstAnswer(threading.Thread):
    """Asks a port again and again until there is an answer, and remembers when."""

    def __init__(self, ask, timeout=30):
        super().__init__(daemon=True)
        self.ask, self.timeout = ask, timeout
        self.at = None

    def run(self):
        end = time.monotonic() + self.timeout
        while self.at is None and time.monotonic() < end:
            if self.ask():
                self.at = time.monotonic()
            else:
                time.sleep(0.0003)


def restore(bench, source, new_name, ports, ask):
    """Restores a checkpoint as a new group. Answers what `inspect` says of the restore, and the seconds until the first answer."""
    bench.groups.append(new_name)
    answer = FirstAnswer(ask)
    begin = time.monotonic()
    answer.start()
    bench.run([bench.aurora, "restore", source, "--as", new_name, *[word for port in ports for word in ("-p", port)]])
    command = time.monotonic() - begin
    answer.join()
    if answer.at is None:
        raise Failure(f"the restored group {new_name} does not answer")
    status = bench.status(new_name)
    return dict(command=command, answer=answer.at - begin, answered_at=answer.at, times=status.get("restoreTimes"))


def proportional_bytes(process):
    """Memory of a process, shared pages divided among those who share them."""
    with open(f"/proc/{process}/smaps_rollup", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise Failure(f"/proc/{process}/smaps_rollup names no Pss")


def start_in_guest(bench, name, *arguments):
    """Starts guestbench in a group and returns when it has said `ready`."""
    process = subprocess.Popen([bench.aurora, "exec", name, "--", "/root/guestbench", *arguments], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    bench.processes.append(process)
    if process.stdout.readline().strip() != b"ready":
        raise Failure(f"guestbench {' '.join(arguments)} does not start in {name}")
    return process
