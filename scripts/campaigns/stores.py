"""One store used from several places: two runtime directories in turn and at once, a copy beside its original, two users."""
import os
import shutil
import subprocess
import time
from pathlib import Path

from aurora import COMMAND, HOME, RUNTIME, Failure, Group, aurora
from rounds import guest_program

NOBODY = 65534
# A collection that another runtime directory excludes says so and waits; this campaign does not wait for the end of that.
BUSY_SECONDS = 5


class Place:
    """A store as it is used with one runtime directory."""

    def __init__(self, store, runtime):
        self.store, self.runtime = Path(store), Path(runtime)
        self.environment = {"AURORA_STORE": str(store), "AURORA_RUNTIME": str(runtime)}

    def aurora(self, *words, **options):
        return aurora(*words, environment=self.environment, **options)

    def gc(self, figures):
        begun = time.monotonic()
        self.aurora("gc")
        figures["collections"] += 1
        figures["gc seconds"].append(time.monotonic() - begun)

    def scrub(self):
        report = self.aurora("store", "scrub", check=False)
        if " 0 findings" not in report:
            raise Failure(f"the scrub of {self.store} says: {report[-2000:]}")


class Shared:
    """A group whose memory shares with all others, and the last counter that was part of a durable checkpoint."""

    def __init__(self, name, place):
        self.place, self.bound = place, 0
        self.group = Group(name, runtime=place.runtime, store=place.store)

    def start(self):
        self.group.start(guest_program("shared"), options=("--history", "4"), memory="128M")
        self.group.wait()

    def checkpoint(self):
        counter = self.group.ask("status")["counter"]
        self.group.checkpoint()
        self.bound = max(self.bound, counter)

    def kill(self, figures):
        self.group.kill()
        figures["kills"] += 1

    def restore(self):
        self.place.aurora("restore", self.group.name)
        self.verify()

    def verify(self):
        found = self.group.wait("check")["counter"]
        if found < self.bound:
            raise Failure(f"{self.group.name} is at {found}; {self.bound} was part of a durable checkpoint; {self.group.tails()}")


def stores(source, arguments, say):
    base = HOME / f"campaign-stores-{os.getpid()}"
    store = Path(os.environ["AURORA_STORE"])
    copy = store.with_name(store.name + "-copy")
    # Short, since sockets lie there.
    runtimes = [Path(f"{RUNTIME}-{letter}{os.getpid()}") for letter in "ab"]
    places = [Place(store, runtime) for runtime in runtimes]
    name = f"campaign-stores-{source.randrange(1 << 32):08x}"
    groups = [Shared(f"{name}-{letter}", place) for letter, place in zip("ab", places)]
    figures = {"rounds": 0, "kills": 0, "collections": 0, "refused collections": 0, "gc seconds": [], "copies": 0, "other user": "no"}
    others = []
    try:
        for group in groups:
            group.start()
            group.checkpoint()
        for group in groups:
            group.kill(figures)
        for number in range(arguments.rounds):
            _in_turn(source, groups, places, figures)
            _at_once(source, groups, places, figures)
            figures["rounds"] += 1
            say(f"stores {number + 1}/{arguments.rounds}: {figures['kills']} kills, {figures['collections']} collections, "
                f"counters {[group.bound for group in groups]}")
        places[0].scrub()
        figures["other user"] = _other_user(base, groups[0], places[0], figures)
        _copies(source, name, groups[0], places[0], copy, others, figures)
        for place in [*places, Place(copy, runtimes[0])]:
            place.scrub()
        return figures
    except (Failure, OSError) as error:
        raise Failure(f"{error!r}\n" + "".join(group.group.tails() for group in groups + others)) from error
    finally:
        for group in groups + others:
            group.group.remove()
        for path in [base, *runtimes]:
            shutil.rmtree(path, ignore_errors=True)
        copy.unlink(missing_ok=True)


def _in_turn(source, groups, places, figures):
    """One works and is killed; the other runtime directory collects what it dropped; then the first one's contents come again."""
    for group, other in zip(groups, reversed(places)):
        group.restore()
        time.sleep(source.uniform(0.3, 1.5))
        group.checkpoint()
        time.sleep(source.uniform(0, 0.5))
        group.kill(figures)
        other.gc(figures)
        group.restore()
        time.sleep(source.uniform(0.1, 1))
        group.checkpoint()
        group.kill(figures)


def _at_once(source, groups, places, figures):
    """Both write into one store; neither can collect, and says so; neither is without room."""
    for group in groups:
        group.restore()
    time.sleep(source.uniform(0.3, 1.5))
    for group in groups:
        group.checkpoint()
    place = places[source.randrange(2)]
    try:
        subprocess.run([COMMAND, "gc"], env={**os.environ, **place.environment}, timeout=BUSY_SECONDS, capture_output=True, check=True)
        raise Failure("a collection ran while another runtime directory was in use")
    except subprocess.TimeoutExpired as error:
        if b"another runtime directory" not in (error.stderr or b""):
            raise Failure(f"a collection waits without saying why: {error.stderr!r}") from error
        figures["refused collections"] += 1
    for group in source.sample(groups, 2):
        group.kill(figures)


def _other_user(base, group, place, figures):
    """Another user may use the store, too: its runtime directory is its own. What it collects, the first one's memory has not seen."""
    if os.geteuid() != 0:
        return "not permitted"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    runtime = Path(f"/tmp/aurora-campaign-{os.getpid()}")
    runtime.mkdir(mode=0o700)
    os.chown(runtime, NOBODY, NOBODY)
    before = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    environment = {"AURORA_STORE": str(place.store), "AURORA_RUNTIME": str(runtime / "run"), "AURORA_HOME": str(runtime / "home")}
    try:
        if subprocess.run([*before, COMMAND, "--version"], capture_output=True).returncode != 0:
            return "cannot start the command"
        refused = subprocess.run([*before, COMMAND, "gc"], env={**os.environ, **environment}, capture_output=True, text=True)
        if refused.returncode == 0 or "ermission denied" not in refused.stderr:
            raise Failure(f"a store of another user's: {refused.returncode} {refused.stderr}")
        if subprocess.run([*before, "test", "-x", str(Path(place.store).parent)]).returncode != 0:
            return "refused; the data directory admits nobody else, so that sharing was not tried"
        place.store.chmod(0o666)
        group.restore()
        group.checkpoint()
        group.kill(figures)
        aurora("gc", environment=environment, before=before)
        figures["collections"] += 1
        group.restore()
        time.sleep(0.5)
        group.checkpoint()
        group.kill(figures)
        aurora("store", "scrub", environment=environment, before=before)
        return "collected"
    finally:
        place.store.chmod(0o600)
        shutil.rmtree(runtime, ignore_errors=True)


def _copies(source, name, group, place, copy, others, figures):
    """A copy of the store's file: groups on both, collections on both, with one runtime directory."""
    subprocess.run(["cp", "--sparse=always", place.store, copy], check=True)
    twin = Place(copy, place.runtime)
    other = Shared(f"{name}-c", twin)
    others.append(other)
    group.restore()
    other.start()
    for number in range(4):
        time.sleep(source.uniform(0.2, 0.8))
        for each in (group, other):
            each.checkpoint()
            each.place.gc(figures)
        if number % 2:
            for each in (group, other):
                each.kill(figures)
                each.restore()
    for each in (group, other):
        each.checkpoint()
        each.kill(figures)
    before = place.aurora("store", "identity")
    if twin.aurora("store", "identity") != before:
        raise Failure("a copy has another identity before it was given one")
    if twin.aurora("store", "identity", "--new") == before:
        raise Failure("the copy has no identity of its own")
    for each in (group, other):
        each.restore()
        each.kill(figures)
    figures["copies"] += 1
