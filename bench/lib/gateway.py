"""A gateway of one's own: started on a free port, spoken to over one connection, ended with what it started."""
import http.client
import io
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
AURORA = os.environ.get("AURORA_COMMAND", str(ROOT / ".build/release/aurora"))
API = "/2015-03-31/functions"


def prepared(home):
    """A home with the kernel and images that there are, and a store of its own: `$AURORA_HOME` from now on."""
    source = pathlib.Path(os.environ.get("AURORA_HOME", str(ROOT / ".build/aurora-home")))
    home = pathlib.Path(home).resolve()
    home.mkdir(parents=True, exist_ok=True)
    for name in ("kernel", "images"):
        if not (home / name).exists():
            (home / name).symlink_to((source / name).resolve())
    os.environ["AURORA_HOME"] = str(home)
    os.environ.setdefault("AURORA_RUNTIME", str(home / "run"))
    return home


class Refused(Exception):
    """An answer with another status than the one that was wanted."""


def archive(files):
    """A ZIP archive of text by name; names that are programs are executable."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o755 if name == "bootstrap" else 0o644) << 16
            out.writestr(info, text)
    return buffer.getvalue()


def connect(port, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def request(connection, method, path, body=None, wants=(200,), headers=None):
    """The answer's body, and the milliseconds from the request to all of it."""
    start = time.perf_counter()
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    text = answer.read()
    spent = (time.perf_counter() - start) * 1000
    if answer.status not in wants or answer.getheader("X-Amz-Function-Error"):
        raise Refused(f"{method} {path}: status {answer.status}: {text[:400]!r}")
    return text, spent


class Gateway:
    """`aurora serve` in a process of its own; a context that ends it."""

    def __init__(self, *options, home=None, token=False):
        self.log = tempfile.TemporaryFile()
        environment = dict(os.environ, **({"AURORA_HOME": str(home)} if home else {}))
        self.environment = environment
        words = [AURORA, "serve", "--listen", "127.0.0.1:0", *([] if token else ["--no-token"]), *map(str, options)]
        self.process = subprocess.Popen(words, stderr=self.log, env=environment)
        self.port = self._port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.connection = connect(self.port)

    def _port(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = re.search(r'"address":"127\.0\.0\.1:(\d+)"', self.messages())
            if found:
                return int(found[1])
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.process.kill()
        self.process.wait()
        raise SystemExit(f"the gateway did not start: {self.messages()}")

    def messages(self):
        """What it has logged."""
        return os.pread(self.log.fileno(), 16 << 20, 0).decode(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.connection.close()
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def fn(self, *words):
        command = [AURORA, "fn", *map(str, words), "--endpoint", self.endpoint]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=self.environment).stdout

    def invoke(self, name, event):
        """What a function answers, and the milliseconds it took."""
        text, spent = request(self.connection, "POST", f"{API}/{name}/invocations", json.dumps(event).encode())
        return json.loads(text), spent

    def metrics(self):
        return request(self.connection, "GET", "/metrics")[0].decode()

    def processes(self):
        """The gateway, its hosts and their instances."""
        found, waiting = [], [self.process.pid]
        while waiting:
            process = waiting.pop()
            found.append(process)
            try:
                for task in os.listdir(f"/proc/{process}/task"):
                    waiting += map(int, pathlib.Path(f"/proc/{process}/task/{task}/children").read_text().split())
            except OSError:
                pass
        return found


def memory(process, *names):
    """KiB of a process: the sum of named lines of its smaps_rollup; zero when it has ended."""
    try:
        text = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.split(":")[0] in names)


def resident(process):
    """KiB of a process that are in memory."""
    return memory(process, "Rss")


def private(process):
    """KiB of a process that it shares with nobody."""
    return memory(process, "Private_Clean", "Private_Dirty", "Private_Hugetlb")


def available():
    """KiB of memory that the host has left."""
    return int(re.search(r"MemAvailable:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
