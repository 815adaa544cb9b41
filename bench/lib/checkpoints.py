"""What checkpoints and restores cost: a function a part, in the order of the table."""
import json
import os
import socket
import time

from . import paper, persisted, redis
from .criu import criu
from .machine import Failure, free_port, wait_for_echo, wait_for_redis
from .report import progress, summary

# The same writing program in every guest: pages a second, at random places of so many MiB.
DIRTY_MIB, DIRTY_RATE = 4, 20000
# MiB of each guest's memory that are filled with noise before the first checkpoint.
GUESTS = {"64M": 0, "256M": 128, "1G": 768, "4G": 3328}
RATES = [1000, 5000, 20000, 50000]


def seconds(bench):
    """How long checkpoints are watched."""
    return 2 if bench.quick else 5


def stop_by_size(bench, figures):
    """Stop time at one rate of dirty pages in guests of 64 MiB to 4 GiB, and the full first checkpoint of each."""
    medians = {}
    for size, fill in GUESTS.items():
        persisted.fresh_store(bench)
        with persisted.group(bench, f"size-{size.lower()}", size) as name:
            bench.copy_in(name, bench.guestbench(), "/root/guestbench")
            persisted.start_in_guest(bench, name, "--dirty", str(DIRTY_MIB), "--rate", str(DIRTY_RATE), "--fill", str(fill))
            full, duration = persisted.attach_store(bench, name)
            add_full(figures, "stop_by_size", size, full, duration)
            entries, rate, _ = persisted.watch(bench, name, lambda: time.sleep(seconds(bench)), "10ms")
        persisted.add_stops(figures, "stop_by_size", f"{size} guest, {DIRTY_RATE} pages/s", entries, goal="C3: within 1.5 x")
        add_work(figures, "stop_by_size", f"{size} guest", entries, [rate])
        figures.add_series(f"{size} guest, {DIRTY_RATE} pages/s", persisted.points(entries))
        medians[size] = summary([entry["stopMicroseconds"] for entry in entries])["median"]
    figures.add("stop_by_size", "largest median / smallest", "x", summary([max(medians.values()) / min(medians.values())]), goal="<= 1.5")


def stop_by_rate(bench, figures):
    """Stop time of a 256 MiB guest at several rates of dirty pages."""
    persisted.fresh_store(bench)
    for pages in RATES:
        with persisted.group(bench, f"rate-{pages}", "256M") as name:
            bench.copy_in(name, bench.guestbench(), "/root/guestbench")
            persisted.start_in_guest(bench, name, "--dirty", "64", "--rate", str(pages))
            persisted.attach_store(bench, name)
            entries, rate, _ = persisted.watch(bench, name, lambda: time.sleep(seconds(bench)), "10ms")
        persisted.add_stops(figures, "stop_by_rate", f"{pages} pages/s", entries)
        add_work(figures, "stop_by_rate", f"{pages} pages/s", entries, [rate])


def add_full(figures, part, label, entry, duration):
    """The first checkpoint, which holds all of memory."""
    figures.add(part, f"{label}: full first checkpoint, stop", "us", summary([entry["stopMicroseconds"]]),
                paper=f"{paper.STOP_FULL['stop']:g}", goal="C2: <= 500")
    figures.add(part, f"{label}: full first checkpoint, until durable", "ms", summary([duration * 1e3]))


def add_work(figures, part, label, entries, rates):
    """What was done: checkpoints a second in each round, pages, bytes."""
    pages = sum(entry["pages"] for entry in entries)
    figures.add(part, f"{label}: checkpoints", "1/s", summary(rates, True), higher_is_better=True)
    figures.add(part, f"{label}: pages a checkpoint", "pages", summary([entry["pages"] for entry in entries]))
    if any(entry.get("pagesInStop") is not None for entry in entries):
        figures.add(part, f"{label}: of that copied in the stop", "pages", summary([entry["pagesInStop"] for entry in entries]))
    if pages:
        written = sum(entry["writtenBytes"] for entry in entries)
        figures.add(part, f"{label}: bytes written a dirty byte", "x", summary([written / (pages * 4096)]))


def redis_size(bench):
    """Bytes of data, and memory of the guest that holds them."""
    return (512 << 20, "1G") if bench.quick else (2 << 30, "3G")


REDIS = ("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "")


def redis_checkpoints(bench, figures):
    """Redis with 2 GiB in a persisted group: throughput, latency and stop at 0, 10 and 100 checkpoints/s."""
    part = "redis"
    data, memory = redis_size(bench)
    keys, port = data // redis.KEY_BYTES, free_port()
    persisted.fresh_store(bench)
    with persisted.group(bench, "redis", memory, "-p", f"{port}:6379", command=REDIS) as name:
        wait_for_redis(port)
        redis.fill(port, keys)
        used = int(redis.information(port)["used_memory"]) >> 20
        figures.note(part, f"{used} MiB in Redis, {keys} keys of {redis.VALUE_BYTES} random bytes")
        results, entries = {}, {}
        redis_round(bench, name, port, keys, None, results, entries)
        full, duration = persisted.attach_store(bench, name)
        add_full(figures, part, f"Redis, {memory} guest", full, duration)
        # One after the other, so that a drift touches all alike.
        for _ in range(1 if bench.quick else 2):
            for period in ("off", "10/s", "100/s"):
                redis_round(bench, name, port, keys, period, results, entries)
        add_redis(figures, part, results)
        for (period, test), found in entries.items():
            if test != "GET" or period != "100/s":
                goal = "C1: <= 250, p99 <= 1,000" if period == "100/s" else ""
                persisted.add_stops(figures, part, f"{test} load, {period}", found[0], paper=paper.STOP_INCREMENTAL, goal=goal,
                                    split=period == "100/s")
            add_work(figures, part, f"{test} load, {period}", *found)
        figures.add_series("Redis 2 GiB, SET load, 100/s", persisted.points(entries["100/s", "SET"][0]))
        figures.add_series("Redis 2 GiB, SET load, 10/s", persisted.points(entries["10/s", "SET"][0]))


def redis_restore(bench, figures):
    """Redis with 2 GiB restored, from memory and from disk: to the first instruction and to the first answered GET."""
    data, memory = redis_size(bench)
    keys, port = data // redis.KEY_BYTES, free_port()
    store = persisted.fresh_store(bench)
    with persisted.group(bench, "redis", memory, "-p", f"{port}:6379", command=REDIS) as name:
        wait_for_redis(port)
        redis.fill(port, keys)
        persisted.attach_store(bench, name)
        persisted.checkpoint(bench, name)
        persisted.kill(bench, name)
        add_restores(bench, figures, "restore", f"Redis, {memory} guest", name, store, 6379, redis.answers,
                     paper.RESTORE_REDIS_MEMORY, None, goals=("R3: <= 700 us", "R3: <= 5 ms"))


def redis_round(bench, name, port, keys, period, results, entries):
    """SET and GET, from the host and inside, at one rate of checkpoints; `period` is None while the group is not persisted at all."""
    requests = 30000 if bench.quick else 100000
    for test in ("SET", "GET"):
        progress(f"measuring: Redis, {test}, {checkpoint_rate(period)}")
        for place in ("through -p", "inside"):
            words = redis.load(test.lower(), requests, keys, port if place == "through -p" else 6379)

            def run():
                return redis.result(bench.output(words) if place == "through -p" else bench.exec(name, *words))

            if period is None:
                results.setdefault((place, test, period), []).append(run())
                continue
            found, rate, result = persisted.watch(bench, name, run, period)
            results.setdefault((place, test, period), []).append(result)
            if place == "through -p" and period != "off":
                known, rates = entries.setdefault((period, test), ([], []))
                known += found
                rates.append(rate)


def checkpoint_rate(period):
    """How the table calls a rate of checkpoints."""
    return {None: "not persisted", "off": "persisted, by hand only"}.get(period, f"{period} checkpoints")


def add_redis(figures, part, results):
    """Throughput and latency against the same guest before it was persisted."""
    for (place, test, period), runs in results.items():
        base, beside = (results[place, test, None], "not persisted") if period else (None, "")
        label = f"{test} {place}, {checkpoint_rate(period)}"
        figures.add(part, label, "req/s", summary([run["rate"] for run in runs], True),
                    base and summary([run["rate"] for run in base], True), beside, goal="C4: >= 0.85" if period == "100/s" else "", higher_is_better=True)
        for key in ("p50", "p99", "max"):
            figures.add(part, f"{label}: latency {key}", "ms", summary([run[key] for run in runs]),
                        base and summary([run[key] for run in base]), beside)


def redis_on_host(bench, figures):
    """Redis' own persistence on the host: RDB (BGSAVE) and AOF (everysec, always), throughput and pause."""
    part, scratch = "redis_peers", bench.work / "scratch" / "redis"
    data = 512 << 20 if bench.quick else 2 << 30
    keys, port, requests = data // redis.KEY_BYTES, free_port(), 30000 if bench.quick else 150000
    server = redis.start_on_host(bench, port, scratch)
    redis.fill(port, keys)

    def run():
        return [redis.result(bench.output(redis.load("set", requests, keys, port))) for _ in range(1 if bench.quick else 3)]

    def add(label, runs, base):
        rate = summary([turn["rate"] for turn in runs], True)
        figures.add(part, f"SET on the host, {label}", "req/s", rate, base and summary([turn["rate"] for turn in base], True),
                    "none" if base else "", higher_is_better=True)
        for key in ("p99", "max"):
            figures.add(part, f"SET on the host, {label}: latency {key}", "ms", summary([turn[key] for turn in runs]),
                        base and summary([turn[key] for turn in base]), "none" if base else "")

    base = run()
    add("no persistence", base, None)
    begin = time.monotonic()
    redis.ask(port, "BGSAVE")
    pause = int(redis.information(port)["latest_fork_usec"])
    during = run()
    while redis.information(port)["rdb_bgsave_in_progress"] == "1":
        time.sleep(0.02)
    figures.add(part, "BGSAVE: pause (fork)", "us", summary([pause]), paper="", what="Redis' own latest_fork_usec")
    figures.add(part, "BGSAVE: until it is on disk, under load", "ms", summary([(time.monotonic() - begin) * 1e3]))
    add("during BGSAVE", during, base)
    for policy in ("everysec", "always"):
        redis.ask(port, "CONFIG", "SET", "appendfsync", policy)
        redis.ask(port, "CONFIG", "SET", "appendonly", "yes")
        while redis.information(port)["aof_rewrite_in_progress"] == "1" or redis.information(port).get("aof_rewrite_scheduled") == "1":
            time.sleep(0.05)
        add(f"AOF {policy}", run(), base)
        redis.ask(port, "CONFIG", "SET", "appendonly", "no")
    bench.end(server)


def restore(bench, figures):
    """A small guest restored from memory and from disk: to the first instruction and to the first answer."""
    store, port = persisted.fresh_store(bench), free_port()
    # The program of the group itself: what was started by `exec` ends with its connection.
    serve = ("/bin/sh", "-c", "until [ -e /root/ready ]; do sleep 0.05; done; exec /root/guestbench --serve 7777")
    with persisted.group(bench, "hello", "128M", "-p", f"{port}:7777", command=serve) as name:
        bench.copy_in(name, bench.guestbench(), "/root/guestbench")
        bench.exec(name, "touch", "/root/ready")
        wait_for_echo(port)
        persisted.attach_store(bench, name)
        persisted.checkpoint(bench, name)
        persisted.kill(bench, name)
        add_restores(bench, figures, "restore", "hello, 128M guest", name, store, 7777, echo_answers, paper.RESTORE_HELLO_MEMORY,
                     paper.RESTORE_HELLO_DISK, goals=("R1, R2: <= 300, <= 650 us", "R1: <= 2 ms"))


def echo_answers(port):
    """Whether `guestbench --serve` answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"e?")
            return connection.recv(1) == b"?"
    except OSError:
        return False


def add_restores(bench, figures, part, label, source, store, guest_port, ask, from_memory, from_disk, goals):
    """Restores again and again, with the store in the page cache, then with its pages dropped."""
    for place, quoted in (("memory", from_memory), ("disk", from_disk)):
        found = []
        for turn in range(bench.rounds(30)):
            port = free_port()
            if place == "disk":
                persisted.drop_cache(store)
            new_name = f"{source}-{place}-{turn}"
            found.append(persisted.restore(bench, source, new_name, [f"{port}:{guest_port}"], lambda: ask(port)))
            bench.remove(new_name)
        add_restore(figures, part, f"{label}, from {place}", found, quoted, goals)


def add_restore(figures, part, label, found, quoted, goals):
    """Lines of one kind of restore."""
    times = [one["times"] for one in found if one["times"]]
    if times:
        figures.add(part, f"{label}: to the first instruction", "us", summary([one["total"] for one in times]),
                    paper=f"{quoted['total']:g}" if quoted else "", goal=goals[0])
        for key, name in (("store", "finding it in the store, reading its state"), ("memory", "memory"), ("machine", "virtual machine"),
                          ("state", "processor and device state"), ("threads", "threads"), ("disks", "disks"),
                          ("history", "pipeline of the checkpoints that follow")):
            figures.add(part, f"{label}: of that {name}", "us", summary([one[key] for one in times]),
                        paper=f"{quoted[key]:g}" if quoted and key in quoted else "")
        figures.add(part, f"{label}: first instruction to first answer", "ms",
                    summary([(one["answered_at"] - one["times"]["resumedAt"]) * 1e3 for one in found if one["times"]]), goal=goals[1])
    figures.add(part, f"{label}: aurora restore until the first answer", "ms", summary([one["answer"] * 1e3 for one in found]))
    figures.add(part, f"{label}: aurora restore until it returns", "ms", summary([one["command"] * 1e3 for one in found]))


def store(bench, figures):
    """The store alone: ingest, look-ups, commits, opening after a crash, collection, against plain file operations."""
    program = bench.root / ".build/release/StoreBench"
    if not program.exists():
        raise Failure("no StoreBench: swift build -c release --product StoreBench")
    words = ["128", "1000"] if bench.quick else ["1024", "10000"]
    for line in bench.output([str(program), str(bench.work), *words, "--json"], timeout=900).splitlines():
        found = json.loads(line)
        figures.add("store", found["name"], found["unit"], found["aurora"], found.get("peer"), found.get("peer_name", ""),
                    goal=found.get("goal", ""), higher_is_better=found.get("higher_is_better", False))


def density(bench, figures):
    """Ten groups of one image: bytes of the store and memory of the host against ten times one; booted, and cloned."""
    def usage(names, path):
        time.sleep(2)
        return allocated_and_resident(bench, names, path)

    for kind in ("booted", "cloned"):
        path = persisted.fresh_store(bench)
        names = []
        try:
            with persisted.group(bench, f"dense-{kind}", "256M", "--period", "off", verb="persist") as first:
                persisted.wait_for_backend(bench, first)
                persisted.checkpoint(bench, first)
                one_store, one_memory = usage([first], path)
                names = [f"{first}-{index}" for index in range(2, 11)]
                for name in names:
                    bench.groups.append(name)
                    if kind == "cloned":
                        bench.run([bench.aurora, "clone", first, name])
                    else:
                        bench.run([bench.aurora, "persist", "-d", "--name", name, "--image", bench.image(), "--memory", "256M",
                                   "--period", "off", "--", "sleep", "100000"])
                    persisted.wait_for_backend(bench, name)
                    persisted.checkpoint(bench, name)
                ten_store, ten_memory = usage([first, *names], path)
        finally:
            for name in names:
                bench.remove(name)
        for what, one, ten in (("store bytes", one_store, ten_store), ("host memory (PSS)", one_memory, ten_memory)):
            figures.add("density", f"ten groups, {kind}: {what}", "MiB", summary([ten / 2**20]), summary([10 * one / 2**20]),
                        "ten times one")
            figures.add("density", f"each further group, {kind}: {what}", "MiB", summary([(ten - one) / 9 / 2**20]))


def allocated_and_resident(bench, names, path):
    """Bytes of the store, and memory of the groups' processes."""
    os.sync()
    return persisted.allocated(path), sum(persisted.proportional_bytes(bench.process_id(name)) for name in names)


ALL = [stop_by_size, stop_by_rate, redis_checkpoints, redis_on_host, criu, restore, redis_restore, store, density]
NEED_A_GUEST = [stop_by_size, stop_by_rate, redis_checkpoints, restore, redis_restore, density]
