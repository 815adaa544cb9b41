"""redis-server, unmodified, without persistence of its own: its keys are a model that the host can compute."""
import hashlib
import socket
import time

from aurora import Failure
from rounds import Program

BATCH, SOCKET_SECONDS = 25, 20


class Client:
    """Enough of the Redis protocol."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SOCKET_SECONDS)
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    @staticmethod
    def encode(words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)

    def send(self, commands):
        self.socket.sendall(b"".join(map(self.encode, commands)))

    def receive(self):
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.receive() for _ in range(int(rest))]
        raise Failure(f"redis: {line!r}")

    def many(self, commands):
        self.send(commands)
        return [self.receive() for _ in commands]

    def one(self, *words):
        return self.many([words])[0]


# One step of the model, run by redis itself: counter, key and list change together or not at all, and a step that was
# still in a buffer of the guest when it was checkpointed does no harm when it runs after the restore.
STEP = """
local n = redis.call('INCR', KEYS[1])
redis.call('SET', 'key:' .. (n % tonumber(ARGV[1])), string.rep(redis.sha1hex(tostring(n)), 1 + n % tonumber(ARGV[2])))
redis.call('LPUSH', 'recent', n)
redis.call('LTRIM', 'recent', 0, 999)
return n
"""


def value(number, repeats):
    """The value that step `number` writes."""
    return hashlib.sha1(str(number).encode()).hexdigest().encode() * (1 + number % repeats)


class Redis(Program):
    """Fills a redis from the host, with the pipeline full when the machine is killed."""

    guest_port = 6379
    keys, repeats, steps_a_second = 20_000, 25, None

    def words(self):
        return ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "no"]

    def started(self, group):
        self.first_answer(group)
        with Client(group.port) as client:
            client.one("SET", "n", 0)
            self.script = client.one("SCRIPT", "LOAD", STEP)
            self.run_id = self.info(client, "run_id")

    @staticmethod
    def info(client, name):
        text = client.one("INFO").decode()
        return next(line.split(":", 1)[1] for line in text.splitlines() if line.startswith(name + ":"))

    def counter(self, group):
        with Client(group.port) as client:
            return int(client.one("GET", "n"))

    def first_answer(self, group):
        deadline = time.monotonic() + 60
        while True:
            try:
                with Client(group.port) as client:
                    return int(client.one("GET", "n") or 0)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Failure(f"redis does not answer: {error}") from error
                time.sleep(0.02)

    def step(self):
        return ("EVALSHA", self.script, 1, "n", self.keys, self.repeats)

    def work(self, group, seconds):
        begun, sent, behind = time.monotonic(), 0, 0
        with Client(group.port) as client:
            while time.monotonic() - begun < seconds:
                if self.steps_a_second and sent > (time.monotonic() - begun) * self.steps_a_second:
                    time.sleep(0.001)
                    continue
                client.send([self.step()] * BATCH)
                sent += BATCH
                behind += BATCH
                while behind > 2 * BATCH:
                    client.receive()
                    behind -= 1
        return sent

    def verify(self, group):
        with Client(group.port) as client:
            if self.info(client, "run_id") != self.run_id:
                raise Failure("redis was started anew")
            last = int(client.one("GET", "n"))
            first = max(1, last - self.keys + 1)
            size = client.one("DBSIZE")
            expected = min(last, self.keys) + (2 if last else 1)
            if size != expected:
                raise Failure(f"redis has {size} keys instead of {expected} at {last}")
            for start in range(first, last + 1, 500):
                numbers = range(start, min(start + 500, last + 1))
                found = client.one("MGET", *(f"key:{number % self.keys}" for number in numbers))
                for number, text in zip(numbers, found):
                    if text != value(number, self.repeats):
                        raise Failure(f"key:{number % self.keys} should hold value {number} of {last}, holds {text!r:.80}")
            recent = client.one("LRANGE", "recent", 0, -1)
            if recent != [str(number).encode() for number in range(last, max(0, last - 1000), -1)]:
                raise Failure(f"the list of recent numbers is wrong at {last}: {recent[:3]}")
            offset = int(client.one("TIME")[0]) - time.time()
            if abs(offset) > 2:
                raise Failure(f"the clock inside is off by {offset:.1f} s")
        return last
