"""What is timed, and what an answer must be. The same for threads and for tasks."""

from __future__ import annotations

import time
from random import Random

from orders import process

#: The payload of ``setup`` and ``reconnect``.
SMALL_BYTES = 1024

#: The payload that is under way beside small ones.
LARGE_BYTES = 1_000_000

#: How many large payloads are under way beside small ones.
LARGE_IN_FLIGHT = 2

#: The pause of ``reconnect`` after a failure.
RETRY_EVERY_S = 0.001

#: The most samples in an answer to ``throughput``.
SAMPLES_MAX = 10_000

#: How long an echo may take.
ECHO_TIMEOUT_S = 60.0

#: How long an echo of ``reconnect`` may take: one that is stuck must not hide that the server is back.
RECONNECT_ECHO_TIMEOUT_S = 1.0


class WrongAnswerError(Exception):
    """What came back is not what was sent."""


class Spent:
    """Time and processor time since this was made, or started again."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Counts from now on."""
        self.started = time.perf_counter()
        self._cpu_s = process.cpu_s()

    @property
    def elapsed_s(self) -> float:
        """Time on the clock."""
        return time.perf_counter() - self.started

    @property
    def cpu_s(self) -> float:
        """Processor time of the whole process."""
        return process.cpu_s() - self._cpu_s


def payload(size_bytes: int) -> bytes:
    """Pseudo-random bytes, the same each time."""
    return Random(size_bytes).randbytes(size_bytes)


def check(answer: bytes, sent: bytes, whole: bool) -> None:
    """Raises :class:`WrongAnswerError` if ``answer`` has not the length of ``sent``, or, with ``whole``, other bytes."""
    if len(answer) != len(sent):
        raise WrongAnswerError(f"{len(answer)} bytes came back of {len(sent)}")
    if whole and answer != sent:
        raise WrongAnswerError("other bytes came back than were sent")


def check_each(answers: list[bytes], sent: bytes, count: int, whole: bool) -> None:
    """The same for ``count`` answers, none of which may be missing."""
    if len(answers) != count:
        raise WrongAnswerError(f"{len(answers)} of {count} servers answered")
    for answer in answers:
        check(answer, sent, whole)


def thinned(samples: list[int]) -> list[int]:
    """At most :data:`SAMPLES_MAX` of ``samples``, evenly spread."""
    return samples[:: max(1, -(-len(samples) // SAMPLES_MAX))]


def micros(samples_ns: list[int]) -> list[float]:
    """Nanoseconds in microseconds."""
    return [sample / 1e3 for sample in samples_ns]


def millis(samples_ns: list[int]) -> list[float]:
    """Nanoseconds in milliseconds."""
    return [sample / 1e6 for sample in samples_ns]
