"""Timers of every kind, signals that wait to be delivered, sleeps and time-outs: all on their way at each checkpoint.

A timer must have fired as often as time passed, as the program's own clock tells: neither lost ticks nor extra ones.
"""
import select
import signal

PERIOD, QUEUED = 0.01, 5
PENDING = signal.SIGUSR2
TIMER, RT = signal.SIGRTMIN + 1, signal.SIGRTMIN + 3
libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
libc.timer_settime.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
signal.pthread_sigmask(signal.SIG_BLOCK, [PENDING, TIMER, RT])


class Times(ctypes.Structure):
    _fields_ = [("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2)]


def times(interval, first):
    split = lambda seconds: (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1e9))
    return ctypes.byref(Times(split(interval), split(first)))


class Ticker:
    """Counts ticks and holds them against the clock."""

    def __init__(self, name, period):
        self.name, self.period, self.ticks, self.start = name, period, 0, time.monotonic()

    def late(self):
        """By how many ticks the count is behind (or ahead, if negative)."""
        return (time.monotonic() - self.start) / self.period - self.ticks


def take(number):
    """Waits for a blocked signal: a timer's overruns and the value sent with it."""
    info = ctypes.create_string_buffer(128)
    call("sigwaitinfo", (ctypes.c_uint64 * 16)(1 << (number - 1)), info)
    return struct.unpack_from("<i", info.raw, 20)[0], struct.unpack_from("<Q", info.raw, 24)[0]


tickers, state = {}, {"counter": 0, "queued": 0}


def descriptor_timer():
    descriptor = call("timerfd_create", time.CLOCK_MONOTONIC, os.O_CLOEXEC)
    ticker = tickers["timerfd"] = Ticker("timerfd", PERIOD)
    call("timerfd_settime", descriptor, 0, times(PERIOD, PERIOD), None)
    far = call("timerfd_create", time.CLOCK_MONOTONIC, os.O_CLOEXEC)
    call("timerfd_settime", far, 0, times(0, 1_000_000), None)
    event = os.eventfd(0, os.EFD_CLOEXEC)
    poll = select.epoll()
    poll.register(descriptor, select.EPOLLIN)
    poll.register(event, select.EPOLLIN)
    os.eventfd_write(event, 1)
    while True:
        for ready, _ in poll.poll():
            if ready == descriptor:
                ticker.ticks += struct.unpack("<Q", os.read(descriptor, 8))[0]
                os.eventfd_write(event, 1)
            else:
                harness.expect(os.eventfd_read(event) >= 1, "an eventfd was ready with nothing in it")
                left = Times()
                call("timerfd_gettime", far, ctypes.byref(left))
                expected = 1_000_000 - (time.monotonic() - ticker.start)
                harness.expect(abs(left.value[0] - expected) < 5, f"a far timer has {left.value[0]} s left instead of {expected:.0f}")


def interval_timer(signum, frame):
    tickers["setitimer"].ticks += 1


def posix_timer():
    """A timer whose signal waits counts what it could not send."""
    timer = ctypes.c_void_p()
    event = (ctypes.c_int * 16)(0, 0, TIMER, 0)  # sigev_value, sigev_signo, SIGEV_SIGNAL
    call("timer_create", time.CLOCK_MONOTONIC, event, ctypes.byref(timer))
    ticker = tickers["timer_create"] = Ticker("timer_create", PERIOD)
    call("timer_settime", timer, 0, times(PERIOD, PERIOD), None)
    while True:
        ticker.ticks += 1 + take(TIMER)[0]


def sleeps():
    """Sleeps and waits with a time-out: never shorter than asked for."""
    condition = threading.Condition()
    while True:
        for wait in (lambda: time.sleep(0.02), lambda: condition.wait(0.02), lambda: select.select([], [], [], 0.02)):
            before = time.monotonic()
            with condition:
                wait()
            passed = time.monotonic() - before
            harness.expect(passed >= 0.0199, f"a wait of 20 ms took {passed * 1000:.2f} ms")


def queue_signals():
    """Queued signals with values: some always wait, and come in their order."""
    process = os.getpid()
    while harness.error is None:
        while state["queued"] < state["counter"] + QUEUED:
            state["queued"] += 1
            call("sigqueue", process, RT, state["queued"])
        harness.expect(PENDING in signal.sigpending(), "the pending signal is gone")
        harness.expect(RT in signal.sigpending(), "the queued signals are gone")
        value = take(RT)[1]
        harness.expect(value == state["counter"] + 1, f"signal {value} came after {state['counter']}")
        state["counter"] += 1
        time.sleep(0.002)


def monotonic():
    last = time.monotonic()
    while True:
        now = time.monotonic()
        harness.expect(now >= last, f"the clock went back from {last} to {now}")
        last = now
        time.sleep(0.0005)


def check():
    """All timers go on, none far behind and none ahead; the blocked signals still wait."""
    before = {name: ticker.ticks for name, ticker in tickers.items()}
    time.sleep(0.5)
    late = {}
    for name, ticker in tickers.items():
        gained = ticker.ticks - before[name]
        harness.expect(gained >= 5, f"{name}: {gained} ticks in half a second")
        late[name] = round(ticker.late(), 2)
        # setitimer's signal carries no count: ticks that fell together are one. The others make up for every one.
        harness.expect(late[name] > -1.5, f"{name} fired {-late[name]} times too often")
        if name != "setitimer":
            harness.expect(late[name] < 20, f"{name} is {late[name]} ticks behind")
    harness.expect(PENDING in signal.sigpending(), "the pending signal is gone")
    return {"counter": state["counter"], "late": late}


def main():
    os.kill(os.getpid(), PENDING)
    signal.signal(signal.SIGALRM, interval_timer)
    # For the main thread alone: in another one it would interrupt sigwaitinfo.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    tickers["setitimer"] = Ticker("setitimer", PERIOD)
    signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
    for body in (descriptor_timer, posix_timer, sleeps, queue_signals, monotonic):
        harness.thread(body)
    harness.status = lambda: {"counter": state["counter"]}
    harness.check = check
    harness.serve()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    while True:
        signal.pause()


main()
