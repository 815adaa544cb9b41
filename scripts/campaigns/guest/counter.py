"""One process with threads: a hash chain, and memory of which every page is known at every moment.

Memory and a mapped file are rings of blocks: block `p` lies in slot `p % SLOTS`. At any moment every slot's contents follow
from the number of blocks written, so one page that a checkpoint missed, or took at another moment than the rest, shows.
"""
import mmap

SLOTS = 8192
lock = threading.Lock()
state = {"counter": 0, "chain": b""}
anonymous = mmap.mmap(-1, SLOTS * PAGE)
os.makedirs("/var/lib/campaign", exist_ok=True)
with open("/var/lib/campaign/mapped", "w+b") as file:
    file.truncate(SLOTS * PAGE)
    mapped = mmap.mmap(file.fileno(), SLOTS * PAGE)


def work():
    while harness.error is None:
        with lock:
            for _ in range(20):
                number = state["counter"] + 1
                slot = number * 2654435761 % SLOTS  # all over the memory, each slot once a turn
                block = pattern(number)
                anonymous[slot * PAGE : (slot + 1) * PAGE] = block
                mapped[slot * PAGE : (slot + 1) * PAGE] = block
                state["chain"] = link(state["chain"], number)
                state["counter"] = number
        time.sleep(0.004)


def status():
    with lock:
        return {"counter": state["counter"], "chain": state["chain"].hex()}


def check():
    with lock:
        last = state["counter"]
        for number in range(max(1, last - SLOTS + 1), last + 1):
            slot = number * 2654435761 % SLOTS
            block = pattern(number)
            for name, memory in (("memory", anonymous), ("mapped file", mapped)):
                found = memory[slot * PAGE : (slot + 1) * PAGE]
                if found != block:
                    harness.fail(f"{name}: slot {slot} should hold block {number} of {last}, holds {found[:32].hex()}")
                    break
        return {"counter": last, "blocks": min(last, SLOTS) * 2}


harness.status, harness.check = status, check
harness.serve()
harness.guard(work)
threading.Event().wait()
