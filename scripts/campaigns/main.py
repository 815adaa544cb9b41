"""scripts/campaign NAME [--rounds N] [--seed S]: see docs/campaigns.md."""
import argparse
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

import scenarios
from aurora import HOME, Failure, prepare_image
from gateway import gateway
from redis import Redis
from rounds import Campaign, Program
from sizes import SIZES, sizes
from stores import stores
from terminal import Terminal

PROGRAMS = {
    "counter": Program, "redis": Redis, "database": Program, "processes": Program, "unlinked": Program, "timers": Program,
    "editor": Program, "terminal": Terminal,
}
SCENARIOS = {"diverge": scenarios.diverge, "many": scenarios.many, "sustained": scenarios.sustained, "gateway": gateway, "stores": stores,
             "sizes": sizes}


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def report(name, seed, figures, seconds):
    """One line, and the same as JSON in the results file."""
    line = {"campaign": name, "date": time.strftime("%Y-%m-%d", time.gmtime()), "seed": seed, "seconds": round(seconds)}
    for key, value in figures.items():
        if isinstance(value, list):
            if value:
                line[key + " median"] = round(statistics.median(value), 4)
                line[key + " p99"] = round(percentile(value, 0.99), 4)
                line[key + " max"] = round(max(value), 4)
        else:
            line[key] = value
    print(f"{name}: passed: " + ", ".join(f"{key} {value}" for key, value in line.items() if key != "campaign"), flush=True)
    return line


def main():
    parser = argparse.ArgumentParser(prog="campaign", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*PROGRAMS, *SCENARIOS, "all"]))
    parser.add_argument("--prepare", action="store_true", help="build the image of the campaigns first; with no NAME nothing else")
    parser.add_argument("--rounds", type=int, default=10, help="how often each group is killed; instances of `many`; seconds of `sustained` and of each size of `sizes`")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of `sizes`: memory of the groups")
    parser.add_argument("--strict", action="store_true", help="of `sizes`: fail where a calm host would reach more")
    parser.add_argument("--seed", type=int, default=None, help="of all that is random; printed")
    parser.add_argument("--period", default="10ms", help="time between checkpoints")
    parser.add_argument("--history", default="standard", help="of `sustained`: history to keep, as in aurora persist")
    parser.add_argument("--history-bytes", help="of `sustained`: room for the history, as in aurora persist")
    parser.add_argument("--memory", default="2G", help="of `sustained`: bytes that redis is filled with")
    parser.add_argument("--control", action="store_true", help="pause and resume instead of killing and restoring; no checkpoints")
    parser.add_argument("--keep", action="store_true", help="leave a failed group where it is")
    parser.add_argument("--quiet", action="store_true", help="only the results")
    parser.add_argument("--results", type=Path, help="append the results to this file, a JSON object a line")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    names = list(PROGRAMS) + ["diverge"] if arguments.names == ["all"] else arguments.names
    unknown = [name for name in names if name not in PROGRAMS and name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no campaign {unknown[0]}: choose of {', '.join([*PROGRAMS, *SCENARIOS])}")
    if not names and not arguments.prepare:
        parser.error("name a campaign, or write --prepare")
    say = (lambda text: None) if arguments.quiet else (lambda text: print(text, flush=True))
    failures = 0
    prepare_image()
    for name in names:
        print(f"{name}: seed {seed}, rounds {arguments.rounds}", flush=True)
        begun, source = time.monotonic(), random.Random(f"{name} {seed}")
        # A store of its own: what it takes is the campaign's, and goes with it.
        store = HOME / f"campaign-{name}-{os.getpid()}.store"
        os.environ["AURORA_STORE"] = str(store)
        try:
            if name in PROGRAMS:
                figures = Campaign(
                    PROGRAMS[name](name, source), source, arguments.rounds, say, arguments.keep, arguments.period,
                    arguments.control).run()
            else:
                figures = SCENARIOS[name](source, arguments, say)
        except Failure as error:
            failures += 1
            if not arguments.keep:
                store.unlink(missing_ok=True)
            print(f"{name}: FAILED with seed {seed}: {error}", flush=True)
            continue
        figures["store MiB at the end"] = round(store.stat().st_blocks / 2048)
        store.unlink()
        line = report(name, seed, figures, time.monotonic() - begun)
        if arguments.results:
            with arguments.results.open("a") as file:
                file.write(json.dumps(line) + "\n")
    sys.exit(1 if failures else 0)


main()
