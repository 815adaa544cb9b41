"""The loop of most campaigns: work, kill at a random moment, resume, verify inside and outside, go on."""
import hashlib
import struct
import threading
import time
from pathlib import Path
from random import Random

from aurora import Failure, Group, aurora

GUEST = Path(__file__).parent / "guest"
# A checkpoint's number appears in the report after its stop: a value read before the report may be in neither of the next two.
NUMBERS_IN_FLIGHT = 2
# How far the clock inside may be from the host's after a restore, in seconds.
CLOCK_SECONDS_MAX = 2.0


def guest_program(name):
    """The words that start a program of `guest`."""
    source = (GUEST / "harness.py").read_text() + "\n" + (GUEST / f"{name}.py").read_text()
    return ["python3", "-c", source]


class Program:
    """A program of `guest` in a group, and what is known of it from outside."""

    guest_port, memory, options = 7000, "256M", ()

    def __init__(self, name, random):
        self.name, self.random = name, random
        self.chain, self.chained = b"", 0
        if name == "database":
            self.options = ("-e", f"JOURNAL={random.choice(['wal', 'delete'])}")

    def words(self):
        return guest_program(self.name)

    def started(self, group):
        answer = group.wait()
        self.boot = answer["boot"]

    def counter(self, group):
        """A counter that anybody outside can see."""
        return group.ask("status")["counter"]

    def first_answer(self, group):
        return group.wait()["counter"]

    def work(self, group, seconds):
        time.sleep(seconds)

    def verify(self, group):
        """All the program's invariants, from inside; clock, boot and hash chain from outside."""
        answer = group.ask("status")
        if answer["boot"] != self.boot:
            raise Failure("the guest was booted anew")
        if abs(answer["wall"] - time.time()) > CLOCK_SECONDS_MAX:
            raise Failure(f"the clock inside is off by {answer['wall'] - time.time():.1f} s")
        if "chain" in answer:
            self.verify_chain(answer["counter"], bytes.fromhex(answer["chain"]))
        checked = group.ask("check")["counter"]
        if checked < answer["counter"]:
            raise Failure(f"the counter went from {answer['counter']} to {checked} while running")
        return checked

    def verify_chain(self, counter, found):
        if counter < self.chained:
            self.chain, self.chained = b"", 0
        for number in range(self.chained + 1, counter + 1):
            self.chain = hashlib.sha256(self.chain + struct.pack("<Q", number)).digest()
        self.chained = counter
        if self.chain != found:
            raise Failure(f"the hash chain at {counter} is wrong")


class Watcher:
    """Reads the counter and the checkpoints' numbers all the time: what must be there after a crash.

    A counter read before checkpoint L was the latest is part of every checkpoint behind L + NUMBERS_IN_FLIGHT; once one of
    those is reported durable the counter must never go back behind what was read.
    """

    def __init__(self, group, program, random):
        self.group, self.program, self.random = group, program, random
        self.pending, self.bound, self.durable, self.observations = [], 0, 0, 0
        self.stopping, self.failure = threading.Event(), None
        self.explicit = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.is_set():
            try:
                self._observe()
            except Failure as error:
                # What fails because the group was killed meanwhile is no failure.
                if not self.stopping.is_set():
                    self.failure = error
                return
            except (OSError, ValueError):
                if self.stopping.is_set():
                    return
                time.sleep(0.01)

    def _observe(self):
        counter = self.program.counter(self.group)
        latest, durable, _ = self.group.persistence()
        self.pending.append((latest + NUMBERS_IN_FLIGHT, counter))
        if self.random.random() < 0.05:
            number = self.group.checkpoint()
            self.explicit += 1
            self._settle(number, counter)
        self._settle(durable, 0)
        self.observations += 1
        time.sleep(0.005)

    def _settle(self, durable, counter):
        self.durable = max(self.durable, durable)
        self.bound = max(self.bound, counter)
        while self.pending and self.pending[0][0] <= durable:
            self.bound = max(self.bound, self.pending.pop(0)[1])

    def stop(self):
        self.stopping.set()

    def join(self):
        self.thread.join(120)
        if self.failure:
            raise self.failure


class Campaign:
    """Rounds of one program."""

    def __init__(self, program, random, rounds, say, keep=False, period="10ms", control=False):
        self.program, self.random, self.rounds, self.say, self.keep = program, random, rounds, say, keep
        self.period, self.control = period, control
        self.group = Group(f"campaign-{program.name}-{random.randrange(1 << 32):08x}")
        self.figures = {"rounds": 0, "kills": 0, "early kills": 0, "observations": 0, "explicit checkpoints": 0, "restore seconds": []}

    def run(self):
        group, failed = self.group, True
        period = () if self.control else ("--period", self.period)
        group.start(
            self.program.words(), self.program.guest_port, self.program.memory, (*period, *self.program.options),
            verb="run" if self.control else "persist")
        try:
            self.program.started(group)
            # Before the first durable checkpoint there is nothing to go back to.
            self.bound, self.durable = 0, 0 if self.control else group.checkpoint()
            for number in range(1, self.rounds + 1):
                if self.control:
                    self.control_round(number)
                else:
                    self.round(number)
            if self.control:
                failed = False
                return {"paused": self.rounds}
            self.figures["checkpoints"] = group.persistence()[0]
            group.kill()
            failed = False
            return self.figures
        except (Failure, OSError) as error:
            raise Failure(f"{error!r}\n{group.tails()}") from error
        finally:
            if not (failed and self.keep):
                group.remove()

    def control_round(self, number):
        """What fails here fails without any checkpoint: the program or the machine is at fault."""
        group = self.group
        self.program.work(group, self.random.uniform(0.05, 1.5))
        before = self.program.counter(group)
        aurora("pause", group.name)
        aurora("resume", group.name)
        counter = self.program.first_answer(group)
        if counter < before:
            raise Failure(f"the counter went from {before} to {counter}")
        self.program.verify(group)
        self.say(f"{self.program.name} {number}/{self.rounds}: paused and resumed, counter {counter}")

    def round(self, number):
        group, figures = self.group, self.figures
        watcher = Watcher(group, self.program, Random(self.random.random()))
        seconds = self.random.uniform(0.05, 1.5)
        try:
            self.program.work(group, seconds)
            watcher.stop()
            group.kill()
        finally:
            watcher.stop()
        watcher.join()
        self.note(watcher)
        self.restore()
        # Some groups are killed again before or just as they answer.
        while self.random.random() < 0.25:
            time.sleep(self.random.uniform(0, 0.05))
            group.kill()
            figures["early kills"] += 1
            self.restore()
        counter = self.program.first_answer(group)
        if counter < self.bound:
            raise Failure(f"round {number}: counter {counter} after the restore; {self.bound} was part of a durable checkpoint")
        self.program.verify(group)
        figures["rounds"] += 1
        self.say(
            f"{self.program.name} {number}/{self.rounds}: killed after {seconds:.2f} s, resumed at checkpoint {self.resumed} "
            f"(durable {self.durable}), counter {counter} (bound {self.bound}), restore {figures['restore seconds'][-1] * 1000:.0f} ms")

    def note(self, watcher):
        self.bound, self.durable = max(self.bound, watcher.bound), max(self.durable, watcher.durable)
        self.figures["kills"] += 1
        self.figures["observations"] += watcher.observations
        self.figures["explicit checkpoints"] += watcher.explicit

    def restore(self):
        begun = time.monotonic()
        aurora("restore", self.group.name)
        self.figures["restore seconds"].append(time.monotonic() - begun)
        self.resumed = self.group.status_file()["restoredFrom"]["number"]
        if self.resumed < self.durable:
            raise Failure(f"resumed at checkpoint {self.resumed}; {self.durable} was reported durable")
