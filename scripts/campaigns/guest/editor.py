"""vim on a pseudo terminal, typed into without a break: the buffer, the file and the screen must be what was typed."""
import fcntl
import pty
import re
import select
import signal
import termios

COLUMNS, ROWS, LINES_MAX = 80, 24, 3000
PATH = "/var/lib/campaign/text"
lock = threading.Lock()
state = {"counter": 0, "written": 0, "first": 1}
screen = bytearray()
os.makedirs("/var/lib/campaign", exist_ok=True)
child, terminal = pty.fork()
if child == 0:
    os.environ.update(TERM="xterm", LANG="C")
    os.execvp("vim", ["vim", "-u", "NONE", "-N", "--cmd", "set updatecount=40 shortmess+=I nomore", PATH])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("<4H", ROWS, COLUMNS, 0, 0))


def text(number):
    return f"line {number} {hashlib.sha256(str(number).encode()).hexdigest()[:40]}"


def read_screen():
    while True:
        screen.extend(os.read(terminal, 65536))
        del screen[:-100_000]


def type_keys(keys):
    data = keys.encode()
    while data:
        data = data[os.write(terminal, data[:512]) :]


def shown(keys, wanted, what):
    """Types something and waits until the screen shows what it must."""
    del screen[:]
    type_keys(keys)
    deadline = time.monotonic() + 20
    while harness.error is None:
        plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()=>].?", b"", bytes(screen))
        if wanted.encode() in plain:
            return
        harness.expect(time.monotonic() < deadline, f"{what}: the screen does not show {wanted!r} but {plain[-300:]!r}")
        time.sleep(0.005)


def work():
    shown("i" + text(1) + "\x1b", text(1), "first line")
    state["counter"] = 1
    while harness.error is None:
        with lock:
            number = state["counter"] + 1
            if number - state["first"] >= LINES_MAX:
                shown("gg1000ddG:echo 'left ' . line('$')\r", f"left {LINES_MAX - 1000}", "deleting")
                state["first"] += 1000
            shown("Go" + text(number) + "\x1b", text(number), "typing")
            state["counter"] = number
            if number % 50 == 0:
                save()
        time.sleep(0.002)


def save():
    shown(":w\r:echo 'saved ' . line('$')\r", f"saved {state['counter'] - state['first'] + 1}", "saving")
    state["written"] = state["counter"]


def expect_file(first, last, what):
    found = open(PATH).read()
    wanted = "".join(text(number) + "\n" for number in range(first, last + 1))
    harness.expect(found == wanted, f"{what}: {len(found)} bytes instead of {len(wanted)}; ends in {found[-60:]!r}")


def check():
    """The buffer is written and compared; the last line is on the screen after it was cleared; undo and redo work."""
    with lock:
        last = state["counter"]
        shown("\x0c", text(last), "redrawing")
        save()
        expect_file(state["first"], last, "file")
        drop_caches()
        expect_file(state["first"], last, "file from the disk")
        if last > state["first"] + 1:
            shown("u:echo 'undone ' . line('$')\r", f"undone {last - state['first']}", "undo")
            shown("\x12:echo 'redone ' . line('$')\r", f"redone {last - state['first'] + 1}", "redo")
        size = struct.unpack("<4H", fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"\0" * 8))
        harness.expect(size[:2] == (ROWS, COLUMNS), f"the terminal is {size}")
        harness.expect(os.tcgetpgrp(terminal) == child, "vim is not in the foreground of its terminal")
        return {"counter": last}


harness.status = lambda: {"counter": state["counter"]}
harness.check = check
harness.thread(read_screen)
harness.serve()
harness.guard(work)
threading.Event().wait()
