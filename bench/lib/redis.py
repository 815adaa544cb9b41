"""Redis as the load: filled with random values, driven by redis-benchmark, on either side."""
import csv
import io
import os
import random
import socket
import threading

from .machine import Failure, wait_for_redis

VALUE_BYTES = 1000
# What a key with such a value takes of Redis' memory: value, key, objects, and their entry in the table.
KEY_BYTES = 1120
BATCH = 1000


def server(bench):
    """The server program: Debian's redis-tools installs it under another name."""
    path = bench.work / "redis-server"
    if not path.exists():
        path.symlink_to("/usr/bin/redis-check-rdb")
    return path


def start_on_host(bench, port, directory):
    """A server on the host without persistence."""
    directory.mkdir(parents=True, exist_ok=True)
    process = bench.start([str(server(bench)), "--port", str(port), "--save", "", "--dir", str(directory)])
    wait_for_redis(port)
    return process


def ask(port, *words, timeout=120):
    """One command; the whole answer as bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(command(*words))
        answer = connection.recv(65536)
        while answer.startswith(b"$") and len(answer) < len(answer.split(b"\r\n", 1)[0]) + 4 + max(0, int(answer[1:].split(b"\r\n", 1)[0])):
            answer += connection.recv(65536)
        return answer


def command(*words):
    """A command in Redis' protocol."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def information(port):
    """INFO as a dictionary."""
    lines = ask(port, "INFO").decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def answers(port):
    """Whether a GET is answered."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(command("GET", "key:000000000000"))
            return connection.recv(1) == b"$"
    except OSError:
        return False


def fill(port, count):
    """Sets `count` keys as redis-benchmark names them, with values of noise."""
    noise = os.urandom(1 << 24)
    generator = random.Random(1)
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        failure = []
        reader = threading.Thread(target=_drain, args=(connection, count, failure))
        reader.start()
        for first in range(0, count, BATCH):
            batch = []
            for key in range(first, min(first + BATCH, count)):
                at = generator.randrange(len(noise) - VALUE_BYTES)
                batch.append(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%b\r\n" % (key, VALUE_BYTES, noise[at:at + VALUE_BYTES]))
            connection.sendall(b"".join(batch))
        reader.join()
    if failure:
        raise Failure(failure[0])


def _drain(connection, count, failure):
    """Counts `+OK` answers."""
    left = count * len(b"+OK\r\n")
    while left > 0:
        try:
            data = connection.recv(1 << 20)
        except OSError as error:
            return failure.append(f"filling Redis: {error}")
        if not data:
            return failure.append("filling Redis: the connection ended")
        if b"-" in data:
            return failure.append(f"filling Redis: {data[:200]!r}")
        left -= len(data)


def load(test, requests, keys, port):
    """The words of a redis-benchmark run."""
    return ["redis-benchmark", "-p", str(port), "-t", test, "-n", str(requests), "-r", str(keys), "-d", str(VALUE_BYTES), "-c", "50",
            "--csv", "--precision", "3"]


def result(text):
    """What a run of redis-benchmark says: requests a second, and latency in milliseconds."""
    rows = list(csv.DictReader(io.StringIO(text[text.find('"test"'):])))
    if not rows:
        raise Failure("redis-benchmark printed no rates")
    row = rows[0]
    return {"rate": float(row["rps"]), "p50": float(row["p50_latency_ms"]), "p99": float(row["p99_latency_ms"]),
            "max": float(row["max_latency_ms"])}
