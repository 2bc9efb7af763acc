"""The native half's log, handed to the standard ``logging`` module.

======================== ==============================================================
``btlightning.client``   dials, connections, miners that are left out
``btlightning.server``   handshakes, handlers that fail, permits
``btlightning.transport`` sockets
``btlightning.signing``  tracebacks of signers
``btlightning.quic``     the QUIC library; ``WARNING`` unless its own level is set
======================== ==============================================================

Handlers run on a thread of btlightning's, ``btlightning-log``: a slow one holds up nobody, and past 8,192 lines that wait
for it, lines are counted and dropped. Records have the time at which they came about.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from . import _native

_TRACE = 5
_LEVEL_MAX = 2**31 - 1

logging.getLogger("btlightning").addHandler(logging.NullHandler())
_quic = logging.getLogger("btlightning.quic")
if _quic.level == logging.NOTSET:
    # Each packet is a line there; whoever wants DEBUG of everything has hardly that in mind.
    _quic.setLevel(logging.WARNING)

_loggers = [logging.getLogger(name) for name in _native.LOGGERS]


def refresh_log_level() -> None:
    """Makes changed levels of the loggers under ``btlightning`` count at once; by itself that takes up to a second."""
    _native.set_log_levels([_least_level(logger) for logger in _loggers])


def _least_level(logger: logging.Logger) -> int:
    if logger.disabled:
        return _LEVEL_MAX
    return min(max(logger.getEffectiveLevel(), logger.manager.disable + 1), _LEVEL_MAX)


def start() -> bool:
    """Starts the thread that fetches the log. The native half calls this when it begins to do anything, once a process.

    False when there is no thread to be had.
    """
    refresh_log_level()
    try:
        threading.Thread(target=_fetch, name="btlightning-log", daemon=True).start()
    except RuntimeError:
        return False
    return True


def _fetch() -> None:
    while (lines := _native.log_lines()) is not None:
        _attempt(refresh_log_level)
        for line in lines:
            _attempt(_hand_over, *line)


def _attempt(step: Callable[..., None], *args: Any) -> None:
    """A filter or a handler that raises costs its own record. It is told as `logging` tells it."""
    try:
        step(*args)
    except BaseException:
        if logging.raiseExceptions and sys.stderr is not None:
            try:
                traceback.print_exc()
            except Exception:
                pass


def _hand_over(
    name: str, level: int, created: float, message: str, file: str, line: int, thread: str
) -> None:
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(level):
        return
    record = logger.makeRecord(name, level, file, line, message, (), None)
    record.relativeCreated += (created - record.created) * 1000
    record.created = created
    record.msecs = float(int(created % 1 * 1000))
    # Threads of Python's have no name that the native half knows.
    record.threadName = thread or "unnamed"
    if level == _TRACE and record.levelname == f"Level {_TRACE}":
        record.levelname = "TRACE"
    logger.handle(record)
