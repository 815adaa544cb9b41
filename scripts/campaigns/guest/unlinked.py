"""Files without a name: written, read and mapped by their descriptors alone, on disk, in a memory file system and as memfd."""
import mmap

SLOTS = 2048
lock = threading.Lock()
state = {"counter": 0}


def unlinked(path):
    """A file that is there as long as it is open."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return descriptor


os.makedirs("/var/lib/campaign", exist_ok=True)
files = {
    "disk": unlinked("/var/lib/campaign/gone"),
    "disk, temporary": os.open("/var/lib/campaign", os.O_TMPFILE | os.O_RDWR, 0o600),
    "tmpfs": unlinked("/dev/shm/gone"),
    "memfd": os.memfd_create("gone"),
}
journal = os.open("/var/lib/campaign/journal", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
os.unlink("/var/lib/campaign/journal")
for descriptor in files.values():
    os.ftruncate(descriptor, SLOTS * PAGE)
mapped = mmap.mmap(files["disk, temporary"], SLOTS * PAGE)


def slot(number):
    return number * 40503 % SLOTS * PAGE


def work():
    while harness.error is None:
        with lock:
            for _ in range(10):
                number = state["counter"] + 1
                block = pattern(number)
                for name, descriptor in files.items():
                    if name != "disk, temporary":
                        os.pwrite(descriptor, block, slot(number))
                mapped[slot(number) : slot(number) + PAGE] = block
                os.write(journal, struct.pack("<Q", number))
                state["counter"] = number
            if number % 100 == 0:
                os.fdatasync(files["disk"])
            if number % 1000 == 0:
                mapped.flush()
        time.sleep(0.004)


def check():
    """Reads everything back, once as it lies in memory and once from the disk."""
    with lock:
        last = state["counter"]
        for _ in range(2):
            for name, descriptor in files.items():
                for number in range(max(1, last - SLOTS + 1), last + 1):
                    found = os.pread(descriptor, PAGE, slot(number))
                    if found != pattern(number):
                        harness.fail(f"{name}: offset {slot(number)} should hold block {number} of {last}, holds {found[:32].hex()}")
                        break
            size = os.fstat(journal).st_size
            harness.expect(size == last * 8, f"journal: {size} bytes for {last} records")
            read = 0
            while read < last:
                part = os.pread(journal, 1 << 16, read * 8)
                numbers = struct.unpack(f"<{len(part) // 8}Q", part)
                harness.expect(numbers == tuple(range(read + 1, read + 1 + len(numbers))), f"journal: wrong behind record {read}")
                if not numbers:
                    break
                read += len(numbers)
            for name, descriptor in files.items():
                harness.expect(os.fstat(descriptor).st_nlink == 0, f"{name}: has a name again")
            mapped.flush()
            drop_caches()
        return {"counter": last, "files": len(files) + 1}


harness.status = lambda: {"counter": state["counter"]}
harness.check = check
harness.serve()
harness.guard(work)
threading.Event().wait()
