"""Groups as the command and the control socket show them, and the line protocol of the programs inside."""
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

COMMAND = os.environ["AURORA_COMMAND"]
HOME = Path(os.environ["AURORA_HOME"])
RUNTIME = Path(os.environ["AURORA_RUNTIME"])
IMAGE = "campaign"
PACKAGES = "python3,redis-server,sqlite3,vim"
GUEST_PORT = 7000
COMMAND_SECONDS_MAX = 300


class Failure(Exception):
    """Something is not as it must be."""


def aurora(*words, check=True, seconds=COMMAND_SECONDS_MAX, binary=False, environment=None, before=()):
    """Runs a command of `aurora`, in the usual environment but for some variables; its standard output."""
    try:
        done = subprocess.run(
            [*before, COMMAND, *map(str, words)], capture_output=True, text=not binary, timeout=seconds, stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})})
    except subprocess.TimeoutExpired as error:
        raise Failure(f"aurora {' '.join(map(str, words))[:200]} took more than {seconds} s") from error
    if check and done.returncode != 0:
        raise Failure(f"aurora {' '.join(map(str, words))[:200]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def prepare_image():
    """The image of all campaigns."""
    if IMAGE not in aurora("image", "ls", "-q").split():
        print(f"building the image {IMAGE}", flush=True)
        aurora("image", "build", IMAGE, "--packages", PACKAGES, seconds=1800)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Group:
    """One group, by name."""

    def __init__(self, name, port=None, runtime=RUNTIME, store=None):
        self.name = name
        self.port = port if port is not None else free_port()
        self.runtime = runtime
        self.environment = {"AURORA_RUNTIME": str(runtime), **({"AURORA_STORE": str(store)} if store else {})}

    def start(self, words, guest_port=GUEST_PORT, memory="256M", options=(), verb="persist"):
        port = ("-p", f"{self.port}:{guest_port}")
        aurora(
            verb, "-d", "--name", self.name, "--image", IMAGE, "-m", memory, *port, *options, "--", *words, environment=self.environment)

    def control(self, method, path):
        """A request to the group's VMM process."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.runtime / self.name / "control.sock"))
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: aurora\r\nContent-Length: 0\r\n\r\n".encode())
            data = b""
            while part := connection.recv(1 << 20):
                data += part
        head, _, body = data.partition(b"\r\n\r\n")
        if not head:
            raise ConnectionError("no answer")
        answer = json.loads(body)
        if head.split()[1] != b"200":
            raise Failure(f"{self.name}: {method} {path}: {answer}")
        return answer

    def persistence(self):
        """Latest number and latest durable number, and all the rest of the report."""
        report = self.control("GET", "/v1/persistence")
        store = next((backend for backend in report["backends"] if backend["kind"] == "store"), {})
        if store.get("error"):
            raise Failure(f"{self.name}: the store takes no checkpoints: {store['error']}")
        return report.get("latestNumber") or 0, store.get("durableNumber") or 0, report

    def checkpoint(self, name=None):
        return self.control("POST", "/v1/checkpoint" + (f"?name={name}" if name else ""))["number"]

    def status_file(self):
        return json.loads((HOME / "groups" / self.name / "status.json").read_text())

    def process(self):
        return self.status_file()["processID"]

    def kill(self):
        """SIGKILL to the VMM process, and waits until nothing is left of it."""
        process = self.process()
        os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while Path(f"/proc/{process}").exists() and not self._is_zombie(process):
            if time.monotonic() > deadline:
                raise Failure(f"{self.name}: process {process} does not end")
            time.sleep(0.001)

    @staticmethod
    def _is_zombie(process):
        """Whether nobody has collected a process of which no thread is left; its descriptors are closed then."""
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
            return state in "ZX" and len(os.listdir(f"/proc/{process}/task")) <= 1
        except OSError:
            return True

    def ask(self, request, seconds=120):
        """A request to the program inside; an error of its own is a failure here."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(request.encode() + b"\n")
            line = connection.makefile("rb").readline()
        if not line:
            raise ConnectionError("no answer")
        answer = json.loads(line)
        if answer["error"]:
            raise Failure(f"{self.name}, inside: {answer['error']}")
        return answer

    def wait(self, request="status", seconds=60):
        """Asks until the program answers: after a start its server may not listen yet."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.ask(request)
            except (OSError, ValueError) as error:
                if time.monotonic() > deadline:
                    raise Failure(f"{self.name} does not answer: {error}; {self.tails()}") from error
                time.sleep(0.02)

    def tails(self):
        """The ends of the group's logs, for a message."""
        directory, text = HOME / "groups" / self.name, ""
        for name in ("status.json", "engine.log", "output.log", "console.log"):
            try:
                text += f"\n--- {name}\n" + (directory / name).read_text(errors="replace")[-1500:]
            except OSError:
                pass
        return text

    def remove(self):
        aurora("rm", "--force", self.name, check=False, environment=self.environment)
