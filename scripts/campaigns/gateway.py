"""The campaign `gateway`: `aurora serve` is killed at random moments; what it has promised must hold."""
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from aurora import COMMAND, HOME, Failure, aurora

GUEST = Path(__file__).parent / "guest"
FUNCTION = "/2015-03-31/functions/f"
# What a busy machine may take for anything; nothing waits that long when all is well.
SECONDS_MAX = 300
EARLY_SHARE, EARLY_SECONDS = 0.25, 0.3
WORK_SECONDS = (0.1, 1.5)


def wait_for(what, condition, log=lambda: ""):
    deadline = time.monotonic() + SECONDS_MAX
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"not within {SECONDS_MAX} s: {what}; {log()}")
        time.sleep(0.005)
    return value


class Gateway:
    """`aurora serve` with directories of its own."""

    def __init__(self, base):
        self.home, self.log, self.process, self.port = base / "home", base / "serve.log", None, 0
        self.home.mkdir(parents=True)
        for part in ("kernel", "images"):
            (self.home / part).symlink_to((HOME / part).resolve())
        self.environment = dict(os.environ, AURORA_HOME=str(self.home), AURORA_RUNTIME=str(base / "run"))

    def start(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--listen", "127.0.0.1:0", "--no-token", "--retry-delay", "20"], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log)
        def port():
            if self.process.poll() is not None:
                raise Failure(f"the gateway did not start: {self.tail()}")
            return re.search(r'"address":"127\.0\.0\.1:(\d+)"', self.log.read_text())
        self.port = int(wait_for("a gateway that listens", port, self.tail)[1])

    def tail(self):
        return self.log.read_text()[-3000:]

    def kill(self):
        """SIGKILL; returns when no process of it is left, with the seconds that took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        wait_for("the end of hosts, machines and builders", lambda: not self.processes())
        return time.monotonic() - begun

    def processes(self):
        """Whatever works in its directories; zombies have no environment."""
        wanted, found = f"AURORA_HOME={self.home}\0".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if wanted in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                pass
        return found

    def ask(self, method, path, body=None, headers=()):
        """A request on a connection of its own: status, header fields, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS_MAX)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, path):
        status, _, body = self.ask("GET", path)
        if status != 200:
            raise Failure(f"GET {path}: {status} {body[:500]}")
        return json.loads(body)

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Clients:
    """What is asked of a gateway until it is killed: requests, asynchronous ones, changes of the function."""

    def __init__(self, gateway, promises, changes):
        self.gateway, self.promises, self.failure = gateway, promises, None
        jobs = [self.events, self.events, self.requests] + ([self.change] if changes else [])
        self.threads = [threading.Thread(target=self.run, args=(job,), daemon=True) for job in jobs]
        for thread in self.threads:
            thread.start()

    def run(self, job):
        try:
            job()
        except (OSError, http.client.HTTPException):
            pass  # The gateway was killed.
        except Failure as error:
            self.failure = error

    def join(self):
        for thread in self.threads:
            thread.join(SECONDS_MAX)
        if self.failure:
            raise self.failure

    def events(self):
        while True:
            status, headers, body = self.gateway.ask("POST", f"{FUNCTION}/invocations", "1", [("X-Amz-Invocation-Type", "Event")])
            if status != 202:
                raise Failure(f"an event was answered with {status} {body[:500]}")
            self.promises.events.add(headers["x-amzn-RequestId"])

    def requests(self):
        for number in range(1 << 30):
            status, headers, body = self.gateway.ask("POST", f"{FUNCTION}/invocations", str(number))
            if status != 200 or headers["X-Amz-Function-Error"] or json.loads(body)["echo"] != number:
                raise Failure(f"request {number} was answered with {status} {body[:500]}; {self.gateway.tail()}")
            self.promises.answered += 1

    def change(self):
        """Changes the function once; until the answer has come either version may serve."""
        wanted = self.promises.newest + 1
        self.promises.newest = wanted
        body = json.dumps({"Environment": {"Variables": {"VERSION": str(wanted)}}})
        status, _, answer = self.gateway.ask("PUT", f"{FUNCTION}/configuration", body)
        if status != 200:
            raise Failure(f"a change was answered with {status} {answer[:500]}")
        self.promises.version = wanted


class Promises:
    """What was acknowledged."""

    def __init__(self):
        self.events, self.acknowledged, self.answered, self.version, self.newest = set(), 0, 0, 1, 1

    def verify(self, gateway):
        """The function is there in an acknowledged version, and every acknowledged event was run."""
        def built():
            functions = gateway.json("/aurora/status")["functions"]
            if [function["name"] for function in functions] != ["f"]:
                raise Failure(f"the functions are {functions}")
            return functions[0] if functions[0]["updateStatus"] != "InProgress" else None
        function = wait_for("the end of a build", built, gateway.tail)
        if (function["state"], function["updateStatus"]) != ("Active", "Successful"):
            raise Failure(f"the function is {function}; {gateway.tail()}")
        status, _, body = gateway.ask("POST", f"{FUNCTION}/invocations", "0")
        if status != 200 or not self.version <= json.loads(body)["version"] <= self.newest:
            raise Failure(f"version {self.version} to {self.newest} was answered with {status} {body[:500]}")
        self.version = self.newest = json.loads(body)["version"]
        wait_for("the delivery of all events", lambda: not gateway.json("/aurora/events")["events"], gateway.tail)
        log = b"".join(path.read_bytes() for path in (gateway.home / "functions" / "f").glob("log*")).decode(errors="replace")
        run = re.findall(r"^START RequestId: (\S+)", log, re.MULTILINE)
        lost = self.events - set(run)
        if lost:
            raise Failure(f"{len(lost)} of {len(self.events)} acknowledged events were never run: {sorted(lost)[:3]}; {gateway.tail()}")
        again = len([name for name in run if name in self.events]) - len(self.events)
        self.acknowledged += len(self.events)
        self.events.clear()
        return again


def gateway(source, arguments, say):
    """Kills a gateway in its work, starts it again, and holds it to what it has acknowledged."""
    base = HOME / f"campaign-gateway-{os.getpid()}"
    server, promises = Gateway(base), Promises()
    figures = {"rounds": 0, "kills": 0, "early": 0, "events run again": 0, "seconds until no process was left": []}
    try:
        server.start()
        (base / "code").mkdir()
        shutil.copy(GUEST / "bootstrap", base / "code" / "bootstrap")
        (base / "code" / "bootstrap").chmod(0o755)
        aurora("fn", "deploy", "f", "--runtime", "provided", "--env", "VERSION=1", "--timeout", 60, base / "code",
               "--endpoint", f"http://127.0.0.1:{server.port}")
        for number in range(arguments.rounds):
            clients = Clients(server, promises, changes=source.random() < 0.5)
            time.sleep(source.uniform(*WORK_SECONDS))
            figures["seconds until no process was left"].append(server.kill())
            figures["kills"] += 1
            clients.join()
            server.start()
            if source.random() < EARLY_SHARE:
                # Once more, before it has taken up all that was left.
                time.sleep(source.uniform(0, EARLY_SECONDS))
                figures["seconds until no process was left"].append(server.kill())
                figures["kills"] += 1
                figures["early"] += 1
                server.start()
            figures["events run again"] += promises.verify(server)
            figures["rounds"] += 1
            say(f"gateway {number + 1}/{arguments.rounds}: {promises.acknowledged} events, {promises.answered} answers")
        figures["events"], figures["answers"], figures["version"] = promises.acknowledged, promises.answered, promises.version
        server.kill()
        aurora("store", "scrub")
        return figures
    finally:
        server.remove()
        if not arguments.keep:
            shutil.rmtree(base, ignore_errors=True)
