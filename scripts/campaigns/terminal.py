"""vim as the group's own program, typed into by `aurora attach` from a terminal of the host."""
import fcntl
import hashlib
import os
import pty
import re
import struct
import termios
import threading
import time

from aurora import COMMAND, Failure, aurora
from rounds import Program

PATH, SECONDS_MAX = "/root/text", 30


def text(number):
    return f"line {number} {hashlib.sha256(str(number).encode()).hexdigest()[:40]}"


class Attached:
    """A terminal on the host in which `aurora attach` runs."""

    def __init__(self, name):
        self.screen, self.lock, self.ended = bytearray(), threading.Lock(), False
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.execv(COMMAND, [COMMAND, "attach", name])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("<4H", 24, 80, 0, 0))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while data := os.read(self.terminal, 65536):
                with self.lock:
                    self.screen += data
        except OSError:
            pass
        self.ended = True

    def type(self, keys):
        try:
            os.write(self.terminal, keys.encode())
        except OSError as error:
            raise ConnectionError("the terminal is gone") from error

    def plain(self):
        with self.lock:
            return re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()=>].?", b"", bytes(self.screen)).decode(errors="replace")

    def shown(self, keys, wanted):
        """Types something and waits for what the screen must show then; the match."""
        with self.lock:
            self.screen.clear()
        self.type(keys)
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            if match := re.search(wanted, self.plain()):
                return match
            if self.ended:
                raise ConnectionError(f"aurora attach has ended: {self.plain()[-300:]!r}")
            if time.monotonic() > deadline:
                raise Failure(f"the screen does not show {wanted} after {keys!r}, but {self.plain()[-300:]!r}")
            time.sleep(0.003)

    def close(self):
        os.close(self.terminal)
        os.waitpid(self.child, 0)


class Terminal(Program):
    """The lines typed from the host: those whose echo was seen before a durable checkpoint must be in the buffer."""

    options = ("-t", "-i", "-e", "TERM=xterm")

    def words(self):
        return ["vim", "-u", "NONE", "-N", "--cmd", "set shortmess+=I nomore", PATH]

    def started(self, group):
        self.attached, self.lines, self.asked = None, 0, 0
        self.attach(group)
        self.attached.shown("i" + text(1) + "\x1b", re.escape(text(1)))
        self.lines = 1

    def attach(self, group):
        if self.attached:
            self.attached.close()
        self.attached = Attached(group.name)

    def counter(self, group):
        return self.lines

    def work(self, group, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            number = self.lines + 1
            self.attached.shown("Go" + text(number) + "\x1b", re.escape(text(number)))
            self.lines = number

    def count(self):
        """Asks vim for the number of lines: the answer carries a number of its own, so an older one is not taken for it."""
        self.asked += 1
        return int(self.attached.shown(f"\x1b\x0c:echo 'q{self.asked}:' . line('$') . ';'\r", rf"q{self.asked}:(\d+);")[1])

    def first_answer(self, group):
        self.attach(group)
        count = self.count()
        # The checkpoint may have been taken in the middle of a line.
        if text(count) not in self.attached.shown("\x1bG$\x0c:echo 'redrawn'\r", "(?s).*redrawn")[0]:
            self.attached.type("dd")
            count = self.count()
        self.lines = count
        return count

    def verify(self, group):
        self.asked += 1
        self.attached.shown(f":w\r:echo 'w{self.asked}:' . line('$') . ';'\r", rf"w{self.asked}:{self.lines};")
        found = aurora("exec", group.name, "--", "cat", PATH)
        if found != "".join(text(number) + "\n" for number in range(1, self.lines + 1)):
            raise Failure(f"the file is not what was typed, {self.lines} lines: {found[-200:]!r}")
        return self.lines
