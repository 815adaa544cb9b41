"""What the programs of the campaigns share inside the guest: a line protocol over TCP and a place for the first error.

`status` answers a JSON object with the program's counter; `check` makes the program verify all it holds and answers
when that is done. An error once found stays: every later answer carries it.
"""
import ctypes
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback

PORT = 7000
PAGE = 4096
libc = ctypes.CDLL(None, use_errno=True)


def link(previous, number):
    """The next value of the hash chain that the host computes as well."""
    return hashlib.sha256(previous + struct.pack("<Q", number)).digest()


def pattern(number, size=PAGE):
    """The contents of block `number`: its own number and a hash of it, over and over, so that torn and mixed blocks show."""
    unit = struct.pack("<Q", number) + hashlib.sha256(struct.pack("<Q", number)).digest()[:24]
    return unit * (size // len(unit))


def call(name, *arguments):
    """A call of the C library; a failure is an OSError."""
    result = getattr(libc, name)(*arguments)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def drop_caches():
    """Makes the kernel forget clean pages of files, so that what is read next comes from the disk."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


class Harness:
    """Answers the host; the program fills in `status` and `check`."""

    def __init__(self):
        self.error = None
        self.status = lambda: {"counter": 0}
        self.check = lambda: {}
        self.boot = open("/proc/sys/kernel/random/boot_id").read().strip()

    def fail(self, text):
        if self.error is None:
            self.error = text
            print("FAILED:", text, file=sys.stderr, flush=True)

    def expect(self, condition, text):
        if not condition:
            self.fail(text)

    def guard(self, body):
        """Runs `body` for ever; what it raises is the program's error."""
        try:
            body()
        except BaseException:
            self.fail(traceback.format_exc())

    def thread(self, body):
        worker = threading.Thread(target=self.guard, args=(body,), daemon=True)
        worker.start()
        return worker

    def serve(self):
        """Listens in a thread of its own."""
        listener = socket.create_server(("0.0.0.0", PORT), backlog=64)

        def accept():
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

        self.thread(accept)

    def _answer(self, connection):
        # A connection from before a crash never ends by itself: nobody is left to close it.
        connection.settimeout(20)
        try:
            with connection, connection.makefile("rw") as stream:
                for line in stream:
                    stream.write(json.dumps(self._reply(line.strip())) + "\n")
                    stream.flush()
        except (OSError, ValueError):
            pass

    def _reply(self, request):
        try:
            answer = {"status": self.status, "check": self.check}[request]()
        except BaseException:
            self.fail(f"{request}: {traceback.format_exc()}")
            answer = {}
        answer.update(random=os.urandom(16).hex(), error=self.error, wall=time.time(), monotonic=time.monotonic(), boot=self.boot)
        return answer


harness = Harness()
