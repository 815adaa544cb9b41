"""The host, the aurora command and the groups that a run of the benchmarks uses."""
import json
import os
import platform
import shutil
import socket
import subprocess
import time

IMAGE = "bench"
PACKAGES = "redis-server,fio"


class Failure(Exception):
    """Something could not be measured; the text says why."""


def free_port():
    """A TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_echo(port, seconds=20):
    """Returns when `guestbench --serve` answers: a published port takes connections before the guest listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"e?")
                if connection.recv(1) == b"?":
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise Failure(f"no echo from port {port} after {seconds} s")


def wait_for_redis(port, seconds=20):
    """Returns when a Redis server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(7).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise Failure(f"no Redis server answers on port {port} after {seconds} s")


class Bench:
    """What all parts share; `close` removes every group and process that was started."""

    def __init__(self, root, quick, host_only, memory):
        self.root, self.quick, self.host_only, self.memory = root, quick, host_only, memory
        self.aurora = os.environ.get("AURORA_COMMAND", str(root / ".build/release/aurora"))
        os.environ.setdefault("AURORA_HOME", str(root / ".build/aurora-home"))
        os.environ.setdefault("AURORA_RUNTIME", str(root / ".build/aurora-run"))
        self.work = root / ".build/bench"
        self.work.mkdir(parents=True, exist_ok=True)
        self.groups, self.processes = [], []
        self._guestbench = None
        self._image_ready = False

    def rounds(self, full):
        """`full` samples, or a tenth of them (at least 3) in a quick run."""
        return max(full // 10, 3) if self.quick else full

    def description(self):
        """What the figures were measured on."""
        model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
        return {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "processor": f"{model}, {os.cpu_count()} CPUs",
            "host kernel": platform.release(),
            "kvm": self.kvm_kind(),
            "commit": self.output(["git", "-C", str(self.root), "describe", "--always", "--dirty"], check=False).strip() or "unknown",
        }

    def kvm_kind(self):
        """What `aurora doctor` says about this host's KVM."""
        if self.host_only:
            return "not used"
        try:
            checks = json.loads(self.output([self.aurora, "doctor", "--format", "json"], check=False))
        except (ValueError, Failure):
            return "unknown: aurora doctor gives no JSON"
        found = [check.get("found") for check in checks if check.get("what") == "KVM"]
        return found[0] if found else "unknown"

    def run(self, command, **options):
        """Runs to the end; a failure carries the last words of the program."""
        try:
            result = subprocess.run(command, capture_output=True, timeout=options.pop("timeout", 180), **options)
        except FileNotFoundError as error:
            raise Failure(f"cannot start {command[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{' '.join(map(str, command))} did not end in time") from error
        if result.returncode != 0:
            words = (result.stderr or result.stdout or b"").decode(errors="replace").strip().splitlines()
            raise Failure(f"{' '.join(map(str, command))} ended with {result.returncode}: {' / '.join(words[-3:])}")
        return result.stdout

    def output(self, command, check=True, **options):
        """Standard output as text."""
        try:
            return self.run(command, **options).decode(errors="replace")
        except Failure:
            if check:
                raise
            return ""

    def guestbench(self):
        """The micro-benchmark program, built once."""
        if self._guestbench is None:
            path = self.work / "guestbench"
            self.run(["make", "-s", "-C", str(self.root / "bench/guestbench"), f"OUTPUT={path}"])
            self._guestbench = path
        return self._guestbench

    def start(self, command):
        """Starts a program that `close` ends."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def end(self, process):
        """Ends a program that `start` began."""
        process.kill()
        process.wait()
        self.processes.remove(process)

    def image(self):
        """The image with everything that is measured in a guest."""
        if not self._image_ready:
            self.run([self.aurora, "image", "prepare"], timeout=1800)
            if IMAGE not in self.output([self.aurora, "image", "ls", "-q"]).split():
                self.run([self.aurora, "image", "build", IMAGE, "--packages", PACKAGES], timeout=1800)
            self._image_ready = True
        return IMAGE

    def group(self, name, *options, command=("sleep", "100000")):
        """Starts a detached group and returns its name."""
        if self.host_only:
            raise Failure("only the host is measured")
        image = self.image()
        full_name = f"bench-{os.getpid()}-{name}"
        self.groups.append(full_name)
        self.run([self.aurora, "run", "-d", "--name", full_name, "--image", image, "--memory", self.memory, *options, "--", *command])
        return full_name

    def exec(self, group, *command, stdin=None, timeout=180):
        """Runs a program in a group; its standard output."""
        options = ["-i"] if stdin is not None else []
        return self.run([self.aurora, "exec", *options, group, "--", *command], input=stdin, timeout=timeout).decode(errors="replace")

    def copy_in(self, group, path, destination):
        """Puts a program of the host into a group."""
        script = f"cat > {destination} && chmod 755 {destination}"
        self.exec(group, "/bin/sh", "-c", script, stdin=path.read_bytes())

    def process_id(self, group):
        """The VMM process of a group."""
        found = self.status(group).get("processID")
        if not found:
            raise Failure(f"aurora inspect {group} names no process")
        return int(found)

    def status(self, group):
        """What `aurora inspect` says of a group's state."""
        return json.loads(self.output([self.aurora, "inspect", group]))[0]["status"]

    def remove(self, group):
        """Ends and forgets a group."""
        subprocess.run([self.aurora, "rm", "--force", group], capture_output=True, timeout=60)
        if group in self.groups:
            self.groups.remove(group)

    def close(self):
        for group in list(self.groups):
            self.remove(group)
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.work / "scratch", ignore_errors=True)
