"""What is measured: a function a part, in the order of the table."""
import csv
import io
import json
import os
import subprocess
import time

from .machine import Failure, free_port, wait_for_echo, wait_for_redis
from .report import progress, summary


def start(bench, report):
    """Start of a group until its agent answers, and a whole `aurora run -- true`."""
    bench.image()
    answers, detached, whole, host = [], [], [], []
    for index in range(bench.rounds(20)):
        begin = time.monotonic()
        group = bench.group(f"start{index}")
        detached.append((time.monotonic() - begin) * 1e3)
        answers.append(bench.status(group)["startMilliseconds"])
        bench.remove(group)
        begin = time.monotonic()
        bench.run([bench.aurora, "run", "--rm", "--image", bench.image(), "--memory", "256M", "--", "/bin/true"])
        whole.append((time.monotonic() - begin) * 1e3)
        begin = time.monotonic()
        subprocess.run(["/bin/true"], check=True)
        host.append((time.monotonic() - begin) * 1e3)
    report.add("start", "agent_answers", "ms", summary(answers), what="start of the VMM process until the program runs, as inspect says")
    report.add("start", "run_detached", "ms", summary(detached), what="aurora run -d: until the agent has started the program")
    report.add("start", "run_true", "ms", summary(whole), summary(host), what="aurora run --rm -- /bin/true, against fork and exec of it")


def micro(bench, report):
    """System calls, faults, processes, threads, disk and loopback: guestbench on both sides."""
    program = bench.guestbench()
    flags = ["--json"] + (["--quick"] if bench.quick else [])
    scratch = bench.work / "scratch"
    scratch.mkdir(exist_ok=True)
    host = json_lines(bench.output([str(program), *flags, "--dir", str(scratch)]))
    guest = {}
    if not bench.host_only:
        group = bench.group("micro")
        bench.copy_in(group, program, "/root/guestbench")
        guest = json_lines(bench.exec(group, "/root/guestbench", *flags, "--dir", "/root"))
        bench.remove(group)
    add_pairs(report, "micro", guest, host)


def one_cpu(bench, report):
    """The host tied to one CPU, as a guest with one virtual CPU is: what two processes cost each other."""
    names = "fork_exit,fork_exec,spawn_exec,thread_start,tcp_round_trip,tcp_throughput"
    flags = ["--json", "--only", names] + (["--quick"] if bench.quick else [])
    program = bench.guestbench()
    host = json_lines(bench.output(["taskset", "-c", "0", str(program), *flags]))
    group = bench.group("onecpu")
    bench.copy_in(group, program, "/root/guestbench")
    guest = json_lines(bench.exec(group, "/root/guestbench", *flags))
    bench.remove(group)
    add_pairs(report, "one_cpu", guest, host)


def network(bench, report):
    """A published port: from a program on the host to one in the guest, against the host's loopback."""
    program = bench.guestbench()
    flags = ["--json"] + (["--quick"] if bench.quick else [])
    host_port, guest_port = free_port(), free_port()
    bench.start([str(program), "--serve", str(host_port)])
    wait_for_echo(host_port)
    host = json_lines(bench.output([str(program), *flags, "--peer", f"127.0.0.1:{host_port}"]))
    guest = {}
    if not bench.host_only:
        group = bench.group("network", "-p", f"{guest_port}:7777")
        bench.copy_in(group, program, "/root/guestbench")
        bench.start([bench.aurora, "exec", group, "--", "/root/guestbench", "--serve", "7777"])
        wait_for_echo(guest_port)
        guest = json_lines(bench.output([str(program), *flags, "--peer", f"127.0.0.1:{guest_port}"]))
        bench.remove(group)
    add_pairs(report, "network", guest, host)


def redis(bench, report):
    """Redis GET and SET: inside a guest, through a published port, and on the host."""
    host_port, tied_port, guest_port = free_port(), free_port(), free_port()
    server = bench.work / "redis-server"
    if not server.exists():
        # The program that Debian's redis-tools installs is the server, too: no service needs to be installed.
        server.symlink_to("/usr/bin/redis-check-rdb")
    bench.start([str(server), "--port", str(host_port), "--save", "", "--dir", str(bench.work)])
    bench.start(["taskset", "-c", "0", str(server), "--port", str(tied_port), "--save", "", "--dir", str(bench.work)])
    wait_for_redis(host_port)
    wait_for_redis(tied_port)
    command = ["redis-benchmark", "-p", "{port}", "-t", "get,set", "--csv", "-c", "50", "-n", str(10000 if bench.quick else 50000)]
    host = redis_rounds(bench, lambda: bench.output(with_port(command, host_port)))
    host_one = redis_rounds(bench, lambda: bench.output(["taskset", "-c", "0", *with_port(command, tied_port)]))
    inside, through = {}, {}
    if not bench.host_only:
        group = bench.group("redis", "-p", f"{guest_port}:6379", command=(
            "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""))
        wait_for_redis(guest_port)
        inside = redis_rounds(bench, lambda: bench.exec(group, *with_port(command, 6379)))
        through = redis_rounds(bench, lambda: bench.output(with_port(command, guest_port)))
        bench.remove(group)
    for test in ("SET", "GET"):
        better = dict(higher_is_better=True)
        report.add("redis", f"{test} inside", "req/s", inside.get(test), host.get(test), **better,
                   what="server and load in the guest, against both on the host")
        report.add("redis", f"{test} inside, host one CPU", "req/s", inside.get(test), host_one.get(test), **better,
                   what="the same, server and load on one CPU of the host")
        report.add("redis", f"{test} through -p", "req/s", through.get(test), host.get(test), **better,
                   what="load on the host, server in the guest")


def disk(bench, report):
    """fio on the root disk, 16 requests at once, against the same on the host's file system."""
    scratch = bench.work / "scratch"
    scratch.mkdir(exist_ok=True)
    seconds = 2 if bench.quick else 5
    group = None if bench.host_only else bench.group("disk")
    for kind in ("randread", "randwrite", "read", "write"):
        size = "4k" if kind.startswith("rand") else "1m"
        command = ["fio", f"--name={kind}", f"--rw={kind}", f"--bs={size}", "--size=256m", "--direct=1", "--ioengine=libaio",
                   "--iodepth=16", "--output-format=json", "--time_based", f"--runtime={seconds}"]
        progress(f"measuring: fio {kind}")
        host = fio_rounds(bench, lambda: bench.output([*command, f"--directory={scratch}"]), kind, size)
        guest = fio_rounds(bench, lambda: bench.exec(group, *command, "--directory=/root"), kind, size) if group else None
        unit = "IOPS" if size == "4k" else "MiB/s"
        report.add("disk", f"fio {kind} {size}", unit, guest, host, higher_is_better=True, what="O_DIRECT, 16 at once")
    if group:
        bench.remove(group)


def memory(bench, report):
    """What the VMM process holds beyond the guest's memory."""
    group = bench.group("memory")
    wanted = size_in_bytes(bench.memory)
    process = bench.process_id(group)
    beyond, private = vmm_memory(process, wanted)
    report.add("memory", "vmm_resident", "MiB", summary([beyond / 2**20]), what="resident memory of the VMM without the guest's")
    report.add("memory", "vmm_private", "MiB", summary([private / 2**20]), what="of that, not shared with other processes")
    bench.remove(group)


ALL = [start, micro, one_cpu, network, redis, disk, memory]
NEED_A_GUEST = [start, one_cpu, memory]


def json_lines(text):
    """guestbench's results by name."""
    return {line["name"]: line for line in map(json.loads, filter(None, text.splitlines()))}


def add_pairs(report, part, guest, host):
    """A line for everything that either side measured."""
    for name in host | guest:
        known = host.get(name) or guest[name]
        report.add(part, name, known["unit"], trimmed(guest.get(name)), trimmed(host.get(name)), known["higher_is_better"], known["what"])


def trimmed(result):
    return result and {key: result[key] for key in ("median", "p99", "samples")}


def with_port(command, port):
    return [word.replace("{port}", str(port)) for word in command]


def redis_rounds(bench, run):
    """Requests a second by test, over a few rounds of redis-benchmark."""
    rates = {}
    for _ in range(2 if bench.quick else 5):
        for row in csv.reader(io.StringIO(run())):
            if len(row) > 1 and row[0] in ("SET", "GET"):
                rates.setdefault(row[0], []).append(float(row[1]))
    if not rates:
        raise Failure("redis-benchmark printed no rates")
    return {test: summary(values, higher_is_better=True) for test, values in rates.items()}


def fio_rounds(bench, run, kind, size):
    """IOPS or MiB/s over a few rounds of fio."""
    values = []
    for _ in range(1 if bench.quick else 3):
        job = json.loads(run())["jobs"][0]["read" if "read" in kind else "write"]
        values.append(job["iops"] if size == "4k" else job["bw_bytes"] / 2**20)
    return summary(values, higher_is_better=True)


def size_in_bytes(text):
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1].upper())
    return int(text[:-1]) * factor if factor else int(text)


def vmm_memory(process, guest_bytes):
    """Resident and private bytes of a process without the guest's memory.

    The guest's memory is a run of adjacent mappings (the kernel's file is mapped into the middle of it): runs that are as large
    as half of it are left out.
    """
    runs = []
    with open(f"/proc/{process}/smaps", encoding="ascii", errors="replace") as lines:
        for line in lines:
            words = line.split()
            if not words[0].endswith(":"):
                start, end = (int(address, 16) for address in words[0].split("-"))
                if not runs or runs[-1]["end"] != start:
                    runs.append(dict(start=start, end=end, resident=0, private=0))
                runs[-1]["end"] = end
            elif words[0] == "Rss:":
                runs[-1]["resident"] += int(words[1]) * 1024
            elif words[0] in ("Private_Clean:", "Private_Dirty:"):
                runs[-1]["private"] += int(words[1]) * 1024
    own = [run for run in runs if run["end"] - run["start"] < guest_bytes // 2]
    if not own:
        raise Failure(f"/proc/{process}/smaps shows no memory: has the process ended? (uid {os.getuid()})")
    return sum(run["resident"] for run in own), sum(run["private"] for run in own)
