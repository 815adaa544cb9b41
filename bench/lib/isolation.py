"""What strict isolation costs: the same guest with it and without, in the same run."""
from .machine import free_port, wait_for_redis
from .parts import add_pairs, json_lines, redis_rounds, with_port

MICRO = "null_system_call,page_fault_first_touch,page_fault_again,fork_exit,fork_exec,pipe_round_trip,futex_round_trip,tcp_round_trip"
MODES = ("strict", "shared")


def isolation(bench, report):
    """Strict isolation (left) beside shared (right): system calls, faults, processes, Redis."""
    flags = ["--json", "--only", MICRO] + (["--quick"] if bench.quick else [])
    command = ["redis-benchmark", "-p", "{port}", "-t", "get,set", "--csv", "-c", "50", "-n", str(5000 if bench.quick else 50000)]
    ports = {mode: free_port() for mode in MODES}
    groups = {mode: bench.group(mode, "--isolation", mode, "-p", f"{ports[mode]}:6379", command=(
        "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "")) for mode in MODES}
    results = {}
    for mode, group in groups.items():
        bench.copy_in(group, bench.guestbench(), "/root/guestbench")
        results[mode] = json_lines(bench.exec(group, "/root/guestbench", *flags))
    add_pairs(report, "isolation", results["strict"], results["shared"])
    inside, through = {}, {}
    for mode, group in groups.items():
        wait_for_redis(ports[mode])
        inside[mode] = redis_rounds(bench, lambda: bench.exec(group, *with_port(command, 6379)))
        through[mode] = redis_rounds(bench, lambda: bench.output(with_port(command, ports[mode])))
        bench.remove(group)
    for test in ("SET", "GET"):
        for place, rates in (("inside", inside), ("through -p", through)):
            report.add("isolation", f"{test} {place}", "req/s", rates["strict"].get(test), rates["shared"].get(test),
                       higher_is_better=True, what="strict, against shared")
