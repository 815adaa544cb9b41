"""Five processes that pass tokens around a ring of all the ways processes talk, each keeping count of what it saw.

parent -> pipe -> 1 -> UNIX stream -> 2 -> UNIX datagram with a name -> 3 -> SysV message queue -> 4 -> POSIX message queue -> parent

Several tokens are always on their way, so a checkpoint finds some inside the kernel's buffers. Each process has its counter in
SysV shared memory and in POSIX shared memory, adds to a sum that a SysV semaphore protects, and locks a file in between.
"""
import fcntl
import mmap

TOKENS, WORKERS, SUM, RECORD = 7, 4, 10, struct.Struct("<QQ32s")
os.makedirs("/run/campaign", exist_ok=True)
parent = os.getpid()
libc.shmat.restype = ctypes.c_void_p
libc.mq_receive.restype = libc.msgrcv.restype = ctypes.c_ssize_t


class SharedNumbers:
    """An array of counters at an address."""

    def __init__(self, address):
        self.values = (ctypes.c_uint64 * 64).from_address(address)

    def __getitem__(self, index):
        return self.values[index]

    def __setitem__(self, index, value):
        self.values[index] = value


sysv = SharedNumbers(libc.shmat(call("shmget", 0x41554701, PAGE, 0o1600), None, 0))
posix_file = os.open("/dev/shm/campaign", os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(posix_file, PAGE)
posix_memory = mmap.mmap(posix_file, PAGE)
posix = SharedNumbers(ctypes.addressof(ctypes.c_char.from_buffer(posix_memory)))
semaphore = call("semget", 0x41554702, 1, 0o1600)
call("semctl", semaphore, 0, 16, 1)  # SETVAL
queue = call("msgget", 0x41554703, 0o1600)


class QueueLimits(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_long), ("maximum", ctypes.c_long), ("size", ctypes.c_long), ("now", ctypes.c_long), ("pad", ctypes.c_long * 4)]


posix_queue = call("mq_open", b"/campaign", os.O_RDWR | os.O_CREAT, 0o600, ctypes.byref(QueueLimits(0, 10, RECORD.size, 0)))
pipe_out, pipe_in = os.pipe()
stream = socket.socketpair()
datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
datagram.bind("/run/campaign/datagram")
errors_out, errors_in = os.pipe()
lock_path = "/run/campaign/lock"
open(lock_path, "w").close()


def read_exactly(descriptor, size):
    data = b""
    while len(data) < size:
        part = os.read(descriptor, size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def receive_datagram():
    return datagram.recv(RECORD.size * 2)


def receive_sysv():
    buffer = ctypes.create_string_buffer(8 + RECORD.size)
    size = call("msgrcv", queue, buffer, RECORD.size, 0, 0)
    return buffer.raw[8 : 8 + size]


def send_sysv(data):
    call("msgsnd", queue, struct.pack("<q", 1) + data, len(data), 0)


def receive_posix():
    buffer = ctypes.create_string_buffer(RECORD.size)
    size = call("mq_receive", posix_queue, buffer, RECORD.size, None)
    return buffer.raw[:size]


def send_posix(data):
    call("mq_send", posix_queue, data, len(data), 0)


def unnamed_socket():
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect("/run/campaign/datagram")
    return sender


def add_to_sum(operations=(ctypes.c_short * 3)):
    """Adds one to two numbers that are equal whenever nobody holds the semaphore."""
    call("semop", semaphore, ctypes.byref(operations(0, -1, 0)), 1)
    first, second = sysv[SUM], posix[SUM]
    if first != second or sysv[SUM + 1] != first:
        raise AssertionError(f"sums differ: {first} {second} {sysv[SUM + 1]}")
    sysv[SUM] = first + 1
    posix[SUM] = second + 1
    sysv[SUM + 1] = first + 1
    call("semop", semaphore, ctypes.byref(operations(0, 1, 0)), 1)


def worker(index, receive, send):
    """Takes tokens, checks that they come in order, and passes them on."""
    seen, lock = 0, open(lock_path, "r+")
    private = bytearray(64 * PAGE)
    while True:
        data = receive()
        number, hops, chain = RECORD.unpack(data)
        if number != seen + 1 or hops != index - 1:
            raise AssertionError(f"token {number} with {hops} hops after token {seen}")
        if not sysv[index] == posix[index] == seen:
            raise AssertionError(f"counters in shared memory: {sysv[index]} {posix[index]}, own {seen}")
        slot = seen % 64 * PAGE
        if seen >= 64 and private[slot : slot + PAGE] != pattern(seen - 64):
            raise AssertionError(f"private memory of token {seen - 64} changed")
        private[slot : slot + PAGE] = pattern(seen)
        seen = number
        add_to_sum()
        fcntl.flock(lock, fcntl.LOCK_EX)
        if posix[40] != 0:
            raise AssertionError(f"process {posix[40]} holds the lock too")
        posix[40] = index
        sysv[index] = posix[index] = seen
        posix[40] = 0
        fcntl.flock(lock, fcntl.LOCK_UN)
        send(RECORD.pack(number, index, link(chain, index)))


def start(index, receive, send):
    child = os.fork()
    if child:
        return child
    try:
        worker(index, receive, send)
    except BaseException:
        os.write(errors_in, f"worker {index}: {traceback.format_exc()}"[:4000].encode())
    os._exit(1)


named = unnamed_socket()
children = [
    start(1, lambda: read_exactly(pipe_out, RECORD.size), stream[0].sendall),
    start(2, lambda: read_exactly(stream[1].fileno(), RECORD.size), named.send),
    start(3, receive_datagram, send_sysv),
    start(4, receive_sysv, send_posix),
]
state = {"counter": 0, "sent": 0}


def origin(number):
    return hashlib.sha256(struct.pack("<Q", number)).digest()


def send_next():
    state["sent"] += 1
    os.write(pipe_in, RECORD.pack(state["sent"], 0, origin(state["sent"])))


def work():
    for _ in range(TOKENS):
        send_next()
    while harness.error is None:
        number, hops, chain = RECORD.unpack(receive_posix())
        expected = origin(number)
        for index in range(1, WORKERS + 1):
            expected = link(expected, index)
        harness.expect(number == state["counter"] + 1 and hops == WORKERS, f"token {number} came after {state['counter']}")
        harness.expect(chain == expected, f"the chain of token {number} is wrong")
        state["counter"] = number
        time.sleep(0.001)
        send_next()


def watch_errors():
    harness.fail(os.read(errors_out, 4096).decode())


def check():
    """The ring must turn several times more, with every process alive and where it was."""
    before = state["counter"]
    deadline = time.monotonic() + 30
    while state["counter"] < before + 4 * TOKENS and harness.error is None:
        harness.expect(time.monotonic() < deadline, f"the ring stands still at {state['counter']}: {list(sysv.values[1:5])}")
        time.sleep(0.01)
    for child in children:
        stat = open(f"/proc/{child}/stat").read().rsplit(")", 1)[1].split()
        harness.expect(stat[0] != "Z" and int(stat[1]) == parent, f"process {child} is {stat[0]}, child of {stat[1]}")
    counters = list(sysv.values[1:5])
    harness.expect(all(before <= counter <= state["sent"] for counter in counters), f"counters {counters} against {state}")
    return {"counter": state["counter"], "sum": sysv[SUM]}


harness.status = lambda: {"counter": state["counter"]}
harness.check = check
harness.thread(watch_errors)
harness.serve()
harness.guard(work)
threading.Event().wait()
