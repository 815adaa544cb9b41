"""Campaigns that are not rounds of kill and restore."""
import json
import os
import threading
import time
from pathlib import Path

from aurora import Failure, Group, aurora
from redis import Client, Redis
from rounds import Program, Watcher, guest_program


def history(group):
    return [entry["number"] for entry in json.loads(aurora("history", group.name, "--limit", 0, "--format", "json"))]


def expect(condition, text):
    if not condition:
        raise Failure(text)


def diverge(source, arguments, say):
    """The same checkpoint twice: two groups that go their own ways; an old one: the newer ones stay."""
    figures = {"rounds": 0, "clones": 0}
    for number in range(arguments.rounds):
        name = f"campaign-diverge-{source.randrange(1 << 32):08x}"
        groups = [Group(name), Group(name + "-a"), Group(name + "-b")]
        try:
            _diverge(source, *groups)
            figures["rounds"] += 1
            figures["clones"] += 2
            say(f"diverge {number + 1}/{arguments.rounds}")
        except Failure as error:
            raise Failure(f"{error}\n" + "".join(group.tails() for group in groups)) from error
        finally:
            for group in groups:
                group.remove()
    return figures


def _diverge(source, group, first, second):
    group.start(guest_program("counter"), options=("--period", "10ms"))
    group.wait()
    time.sleep(source.uniform(0.2, 1))
    before = group.ask("status")["counter"]
    mark = group.checkpoint("mark")
    after = group.ask("status")["counter"]
    time.sleep(source.uniform(0.2, 1))
    beyond = group.ask("status")["counter"]
    newest = group.checkpoint("newest")
    for clone in (first, second):
        aurora("restore", group.name, "--at", "mark", "--as", clone.name, "-p", f"{clone.port}:7000")
    answers = [clone.wait() for clone in (first, second)]
    chains = [Program("counter", source) for _ in answers]
    expect(answers[0]["random"] != answers[1]["random"], "two clones drew the same random numbers")
    for clone, chain, answer in zip((first, second), chains, answers):
        expect(answer["counter"] >= before, f"{clone.name} is at {answer['counter']}, its checkpoint at {before} or more")
        chain.boot = answer["boot"]
        aurora("exec", clone.name, "--", "sh", "-c", f"echo {clone.name} >/root/who; sync; echo 3 >/proc/sys/vm/drop_caches")
    time.sleep(source.uniform(0.2, 1))
    for clone, chain, answer in zip((first, second), chains, answers):
        expect(aurora("exec", clone.name, "--", "cat", "/root/who") == clone.name + "\n", f"{clone.name} sees another's file")
        expect(chain.verify(clone) > answer["counter"], f"{clone.name} stands still")
    # Each has a history of its own.
    first.checkpoint()
    reached = first.ask("status")["counter"]
    number = first.checkpoint()
    first.kill()
    aurora("restore", first.name)
    expect(first.wait()["counter"] >= reached, "a clone lost what it had done")
    expect(first.status_file()["restoredFrom"]["number"] >= number, "a clone went on from an older checkpoint than its own")
    chains[0].verify(first)
    expect(group.wait()["counter"] >= beyond, "the origin went back")
    _old_and_new(source, group, mark, newest, (before, after, beyond))


def _old_and_new(source, group, mark, newest, counters):
    """Back to the old checkpoint, then to the newer one, which must still be there."""
    before, after, beyond = counters
    numbers = set(history(group))
    expect({mark, newest} <= numbers, f"the history lacks {mark} or {newest}")
    group.kill()
    # Time passes between the restore and the first answer: what a checkpoint held shows only in where it can have begun.
    aurora("restore", group.name, "--at", mark)
    expect(group.status_file()["restoredFrom"]["number"] == mark, "another checkpoint was restored")
    chain = Program("counter", source)
    chain.boot = group.wait()["boot"]
    expect(chain.verify(group) >= before, "the old checkpoint is older than it was")
    expect(mark in history(group) and newest in history(group), "restoring an old checkpoint took newer ones away")
    group.kill()
    aurora("restore", group.name, "--at", newest)
    expect(group.status_file()["restoredFrom"]["number"] == newest, "another checkpoint was restored")
    expect(group.wait()["counter"] >= beyond, "the newer checkpoint lost what it held")
    chain.verify(group)


def store_bytes():
    """What the store's file takes on the disk."""
    return Path(os.environ["AURORA_STORE"]).stat().st_blocks * 512


def memory_bytes(groups):
    """Memory of the host that the VMM processes take, shared pages counted once (PSS)."""
    total = 0
    for group in groups:
        rollup = Path(f"/proc/{group.process()}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
    return total


def many(source, arguments, say):
    """Groups of one image: booted, and cloned from one that runs. What all take against what one takes."""
    count = max(2, arguments.rounds)
    name = f"campaign-many-{source.randrange(1 << 32):08x}"
    groups = [Group(f"{name}-{number}") for number in range(count)]
    clones = [Group(f"{name}-clone-{number}") for number in range(count)]
    figures = {"groups": count}
    mebibytes = lambda value: round(value / (1 << 20), 1)
    try:
        for number, group in enumerate(groups):
            group.start(guest_program("idle"), options=("--period", "off"))
            group.wait()
            group.checkpoint()
            if number == 0:
                figures["store MiB of one"] = mebibytes(store_bytes())
                figures["memory MiB of one"] = mebibytes(memory_bytes(groups[:1]))
        figures["store MiB of all"] = mebibytes(store_bytes())
        figures["memory MiB of all"] = mebibytes(memory_bytes(groups))
        groups[0].checkpoint("origin")
        before = store_bytes()
        for clone in clones:
            aurora("restore", groups[0].name, "--at", "origin", "--as", clone.name, "-p", f"{clone.port}:7000")
            clone.wait("check")
            clone.checkpoint()
        figures["store MiB of clones"] = mebibytes(store_bytes() - before)
        figures["memory MiB of clones"] = mebibytes(memory_bytes(clones))
        for kind in ("store", "memory"):
            figures[kind + " of all against as many times one"] = round(
                figures[f"{kind} MiB of all"] / count / figures[f"{kind} MiB of one"], 2)
        figures["memory of clones against as many times one"] = round(
            figures["memory MiB of clones"] / count / figures["memory MiB of one"], 2)
        return figures
    finally:
        for group in groups + clones:
            group.remove()


class LoadedRedis(Redis):
    """A redis filled to a size, with a steady load."""

    def __init__(self, name, source, bytes_wanted, memory):
        super().__init__(name, source)
        self.repeats = 200  # 40 to 8,000 bytes a value
        self.keys, self.memory = bytes_wanted // 4300, memory
        self.steps_a_second = 2000

    def fill(self, group, say):
        with Client(group.port) as client:
            done = 0
            while done < self.keys:
                client.send([self.step()] * 500)
                done = [client.receive() for _ in range(500)][-1]
                if done % 50_000 == 0:
                    say(f"filled {done} of {self.keys} keys")
            return int(self.info(client, "used_memory"))


def sustained(source, arguments, say):
    """A hundred checkpoints a second on a loaded redis, for so many seconds; then a kill, and all is there."""
    size = int(float(arguments.memory[:-1]) * {"M": 1 << 20, "G": 1 << 30}[arguments.memory[-1]])
    seconds = arguments.rounds
    program = LoadedRedis("redis", source, size, f"{size * 3 // 2 >> 20}M")
    group = Group(f"campaign-sustained-{source.randrange(1 << 32):08x}")
    room = ("--history-bytes", arguments.history_bytes) if arguments.history_bytes else ()
    group.start(program.words(), program.guest_port, program.memory, ("--period", arguments.period, "--history", arguments.history, *room))
    failed = True
    try:
        program.started(group)
        used = program.fill(group, say)
        watcher = Watcher(group, program, source)
        samples, sent = [], []
        work = threading.Thread(target=lambda: sent.append(program.work(group, seconds)), daemon=True)
        begun, first = time.monotonic(), group.persistence()[0]
        work.start()
        while time.monotonic() - begun < seconds:
            time.sleep(min(10, seconds / 3))
            samples.append(sample(group, begun, say))
        work.join(60)
        expect(sent, "the load broke off")
        last, passed = group.persistence()[0], time.monotonic() - begun
        watcher.stop()
        group.kill()
        watcher.join()
        restored = time.monotonic()
        aurora("restore", group.name)
        counter = program.first_answer(group)
        restored = time.monotonic() - restored
        expect(counter >= watcher.bound, f"counter {counter} after the restore; {watcher.bound} was part of a durable checkpoint")
        program.verify(group)
        failed = False
        return {
            "redis MiB": used >> 20, "measured seconds": round(passed), "checkpoints": last - first,
            "rate": round((last - first) / passed, 1), "steps a second": round(sent[0] / passed),
            "stop median us": [each["median"] for each in samples], "stop p99 us": [each["p99"] for each in samples],
            "VMM MiB": [each["memory"] for each in samples], "store MiB": [each["store"] for each in samples],
            "checkpoints kept": [each["kept"] for each in samples], "restore to first answer": round(restored, 3),
        }
    except (Failure, OSError) as error:
        raise Failure(f"{error!r}\n{group.tails()}") from error
    finally:
        if not (failed and arguments.keep):
            group.remove()


def sample(group, begun, say):
    report = group.persistence()[2]
    stops = report.get("stops") or {"median": 0, "p99": 0}
    found = {
        "second": round(time.monotonic() - begun), "rate": report["rate"], "median": stops["median"], "p99": stops["p99"],
        "lag": report.get("durabilityLagMilliseconds"), "memory": memory_bytes([group]) >> 20, "store": store_bytes() >> 20,
        "kept": len(history(group)),
    }
    say("sustained: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    return found
