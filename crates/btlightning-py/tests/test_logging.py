"""The native half's log, as records of the standard `logging`."""

from __future__ import annotations

import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from btlightning import _native
from btlightning._client import Lightning
from btlightning._logging import refresh_log_level

SEED = bytes(32)


@pytest.fixture
def client() -> Iterator[Lightning]:
    with Lightning(signer=SEED) as client:
        yield client


def warn(client: Lightning, lines: int = 1, what: str = "nobody") -> None:
    """Causes a warning for each miner that has no hotkey."""
    client.initialize_connections(
        [{"hotkey": f"{what} {at}", "ip": "127.0.0.1", "port": 1} for at in range(lines)]
    )


class Handler(logging.Handler):
    """Keeps records, for tests to wait for; holds them up while it is held."""

    def __init__(self) -> None:
        super().__init__()
        self.records: queue.Queue[logging.LogRecord] = queue.Queue()
        self.go = threading.Event()
        self.go.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.put(record)
        assert self.go.wait(30)

    def next(self, wanted: Callable[[logging.LogRecord], bool] = lambda _: True) -> logging.LogRecord:
        while True:
            record = self.records.get(timeout=30)
            if wanted(record):
                return record


@pytest.fixture
def log() -> Iterator[Handler]:
    handler = Handler()
    logger = logging.getLogger("btlightning")
    logger.addHandler(handler)
    yield handler
    handler.go.set()
    logger.removeHandler(handler)
    for name in ("btlightning", *_native.LOGGERS):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("btlightning.quic").setLevel(logging.WARNING)
    refresh_log_level()


def run(program: str) -> subprocess.CompletedProcess[str]:
    head = """
import logging, os, sys, threading, time
from btlightning._client import Lightning
nobody = lambda lines: [dict(hotkey=f"nobody {at}", ip="127.0.0.1", port=1) for at in range(lines)]
seed = bytes(32)
"""
    return subprocess.run([sys.executable, "-c", head + program], capture_output=True, text=True, timeout=60)


def test_a_record_says_where_when_and_what(client: Lightning, log: Handler) -> None:
    before = time.time()
    warn(client, what="50% of nobody")
    record = log.next()
    assert record.name == "btlightning.client"
    assert (record.levelno, record.levelname) == (logging.WARNING, "WARNING")
    assert record.getMessage().startswith('miner "50% of nobody 0" at "127.0.0.1:1" is left out')
    assert before <= record.created <= time.time()
    assert record.msecs == int(record.created % 1 * 1000)
    assert record.filename == "registry.rs" and record.lineno > 0
    assert not os.path.isabs(record.pathname) and "crates" not in record.pathname
    assert "btlightning.client" in logging.Formatter("%(asctime)s %(name)s %(process)d %(thread)d").format(
        record
    )


def test_lines_keep_their_order(client: Lightning, log: Handler) -> None:
    warn(client, 100)
    for at in range(100):
        assert f'"nobody {at}"' in log.next().getMessage()


def test_what_no_logger_wants_is_not_logged(client: Lightning, log: Handler) -> None:
    client.close()  # an INFO line
    warn(client)
    assert log.next().levelno == logging.WARNING
    logging.getLogger("btlightning").setLevel(logging.INFO)
    refresh_log_level()
    client.close()
    assert log.next().getMessage() == "all connections are closed"
    logging.getLogger("btlightning.client").setLevel(logging.ERROR)
    refresh_log_level()
    warn(client)
    client.close()
    logging.getLogger("btlightning.client").setLevel(logging.NOTSET)
    refresh_log_level()
    warn(client, what="somebody")
    assert "somebody" in log.next().getMessage()


def test_a_level_counts_within_about_a_second_by_itself(client: Lightning, log: Handler) -> None:
    logging.getLogger("btlightning").setLevel(logging.INFO)
    until = time.monotonic() + 10
    while log.records.empty() and time.monotonic() < until:
        client.close()
        # sleeps: what is awaited is a thread that looks once a second.
        time.sleep(0.05)
    assert log.next().getMessage() == "all connections are closed"


@pytest.mark.parametrize("off", ["manager", "logger"])
def test_what_is_disabled_is_not_logged(client: Lightning, log: Handler, off: str) -> None:
    logger = logging.getLogger("btlightning.client")
    if off == "manager":
        logging.disable(logging.WARNING)
    else:
        logger.disabled = True
    refresh_log_level()
    try:
        warn(client, what="unheard")
    finally:
        logging.disable(logging.NOTSET)
        logger.disabled = False
        refresh_log_level()
    warn(client, what="heard")
    assert '"heard 0"' in log.next().getMessage()


def test_the_quic_library_is_quiet_unless_its_own_level_is_lowered(client: Lightning, log: Handler) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        miner = {"hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", "ip": "127.0.0.1"}
        with Lightning(signer=SEED, connect_timeout_secs=0.05) as client:
            logging.getLogger("btlightning").setLevel(1)
            refresh_log_level()
            client.initialize_connections([{**miner, "port": silent.getsockname()[1]}])
            assert "next dial in" in log.next(lambda record: record.levelno == logging.WARNING).getMessage()
            logging.getLogger("btlightning.quic").setLevel(1)
            refresh_log_level()
            client.update_miner_registry([])
            client.update_miner_registry([{**miner, "port": silent.getsockname()[1]}])
            record = log.next(lambda record: record.name == "btlightning.quic")
            assert (record.levelno, record.levelname) in [(5, "TRACE"), (10, "DEBUG")]
            assert not os.path.isabs(record.pathname)


def test_a_slow_handler_holds_up_nobody_and_what_it_misses_is_counted(
    client: Lightning, log: Handler
) -> None:
    log.go.clear()
    warn(client)
    log.next()  # Its handler holds the thread from now on.
    warn(client, 20_000)
    client.close()
    log.go.set()
    missed = log.next(lambda record: record.name == "btlightning")
    assert missed.getMessage().startswith(f"{20_000 - 8192} log lines were dropped")
    assert missed.levelno == logging.WARNING
    warn(client, what="somebody")
    assert '"somebody 0"' in log.next().getMessage()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_handler_that_raises_loses_its_own_record(
    client: Lightning, log: Handler, error: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    class Raises(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise error("no room")

    handler = Raises()
    logging.getLogger("btlightning").addHandler(handler)
    warn(client)
    log.next()
    warn(client, what="next")
    assert '"next 0"' in log.next().getMessage()
    logging.getLogger("btlightning").removeHandler(handler)
    warn(client, what="last")
    log.next()
    assert f"{error.__name__}: no room" in capsys.readouterr().err


def test_a_handler_may_call_the_client(client: Lightning, log: Handler) -> None:
    answers: queue.Queue[object] = queue.Queue()

    class Curious(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            answers.put(client.get_connection_stats())

    handler = Curious()
    logging.getLogger("btlightning").addHandler(handler)
    try:
        warn(client)
        assert isinstance(answers.get(timeout=30), dict)
    finally:
        logging.getLogger("btlightning").removeHandler(handler)


def test_a_very_long_line_is_cut(client: Lightning, log: Handler) -> None:
    warn(client, what="é" * 100_000)
    message = log.next().getMessage()
    assert len(message.encode()) < 4096 and message.endswith("...")


def test_nothing_is_shown_to_those_who_configure_nothing() -> None:
    done = run("""
client = Lightning(signer=seed)
client.initialize_connections(nobody(3))
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_queued_at_the_exit_is_handed_over() -> None:
    done = run("""
logging.basicConfig(stream=sys.stdout, format="%(message)s")
client = Lightning(signer=seed)
client.initialize_connections(nobody(5000))
""")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.count("is left out") == 5000


def test_a_handler_that_does_not_return_does_not_hold_the_exit() -> None:
    done = run("""
began = threading.Event()
class Stuck(logging.Handler):
    def emit(self, record):
        began.set()
        threading.Event().wait()
logging.getLogger().addHandler(Stuck())
client = Lightning(signer=seed)
client.initialize_connections(nobody(3))
began.wait(30)
print("ends")
logging.raiseExceptions = False
import atexit; atexit.unregister(logging.shutdown)  # which would wait for the handler's lock
""")
    assert (done.returncode, done.stdout) == (0, "ends\n"), done


def test_a_process_that_only_imports_has_no_thread_and_may_fork() -> None:
    done = run("""
assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
logging.basicConfig(stream=sys.stderr, format="%(message)s")
child = os.fork()
client = Lightning(signer=seed)
client.initialize_connections(nobody(1))
assert "btlightning-log" in [thread.name for thread in threading.enumerate()]
if child:
    assert os.waitpid(child, 0)[1] == 0
""")
    assert done.returncode == 0, done
    assert done.stderr.count("is left out") == 2


def test_a_child_of_a_process_that_logged_logs_nothing_and_ends() -> None:
    done = run("""
from btlightning import LightningError, refresh_log_level
logging.basicConfig(stream=sys.stderr, format="%(message)s")
client = Lightning(signer=seed)
client.initialize_connections(nobody(1))
child = os.fork()
if child == 0:
    logging.getLogger("btlightning").setLevel(1)
    refresh_log_level()
    try:
        client.initialize_connections(nobody(1))
    except LightningError as error:
        print(type(error).__name__)
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
""")
    assert (done.returncode, done.stdout) == (0, "ForkError\n"), done
    assert done.stderr.count("is left out") == 1
