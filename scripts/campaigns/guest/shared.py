"""Memory whose contents come again and again, and are those of every other group with this program: what one drops, another shares.

Runs of five pages: shorter than what a collection gives back to the file system, so that freed blocks keep their bytes. Run `r` holds the
contents of its turn, one of a few, or zeros; which one follows from the number of turns.
"""
import mmap

RUNS, PAGES, CONTENTS = 400, 5, 4
lock = threading.Lock()
state = {"counter": 0}
memory = mmap.mmap(-1, RUNS * PAGES * PAGE)


def contents(run, turn):
    """What a run holds after its `turn`-th change; 0 turns: it was never changed."""
    kind = turn % (CONTENTS + 1)
    return b"".join(pattern((kind * RUNS + run) * PAGES + page) for page in range(PAGES)) if kind else bytes(PAGES * PAGE)


def turns(run, counter):
    """How often a run has been changed by the first `counter` changes."""
    return (counter + RUNS - 1 - run) // RUNS


def work():
    while harness.error is None:
        with lock:
            for _ in range(10):
                run = state["counter"] % RUNS
                state["counter"] += 1
                start = run * PAGES * PAGE
                memory[start : start + PAGES * PAGE] = contents(run, turns(run, state["counter"]))
        time.sleep(0.01)


def status():
    with lock:
        return {"counter": state["counter"]}


def check():
    with lock:
        for run in range(RUNS):
            start = run * PAGES * PAGE
            if memory[start : start + PAGES * PAGE] != contents(run, turns(run, state["counter"])):
                harness.fail(f"run {run} does not hold what it must after {state['counter']} changes")
        return {"counter": state["counter"]}


harness.status, harness.check = status, check
harness.serve()
harness.guard(work)
threading.Event().wait()
