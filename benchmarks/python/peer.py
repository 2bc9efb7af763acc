"""A peer of the benchmark, in Python: orders in on standard input, a JSON object a line, an answer each on standard output.

    peer.py --system NAME --role server|client|both [--servers N]

Standard error is for people. The lines are described in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from typing import TextIO

import systems
from orders import process, tasks, threads
from orders.protocol import Answer, Order, ServerAt, SkippedError, UnavailableError, host_and_port


def main() -> None:
    """Obeys until it is told to stop, or standard input ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", required=True, choices=systems.NAMES)
    parser.add_argument("--role", required=True, choices=["server", "client", "both"])
    parser.add_argument("--servers", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    # bittensor reads the arguments of the program that imports it.
    sys.argv[1:] = []
    out = answers_only()
    process.raise_open_files()
    count = 0 if arguments.role == "client" else arguments.servers
    try:
        peer = Peer(systems.peer(arguments.system), arguments.role, count)
    except UnavailableError as error:
        say(out, {"unavailable": str(error)})
        return
    except Exception as error:
        traceback.print_exc()
        say(out, {"unavailable": in_a_line(error)})
        return
    say(out, {"ready": peer.ready()})
    for line in sys.stdin:
        answer = peer.obey(line)
        say(out, answer)
        if "stopped" in answer:
            return
    peer.close()


def answers_only() -> TextIO:
    """Standard output, kept for answers: what libraries print goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return out


def say(out: TextIO, answer: Answer) -> None:
    """A line to the driver."""
    out.write(json.dumps(answer) + "\n")
    out.flush()


def in_a_line(error: Exception) -> str:
    """What went wrong, for the driver."""
    return f"{type(error).__name__}: {error}"


class Peer:
    """What a process is: servers, a client, or both."""

    def __init__(self, peer: threads.Peer | tasks.Peer, role: str, count: int) -> None:
        self._peer = peer
        self._is_client = role != "server"
        self._servers: list[ServerAt] | None = peer.serve([0] * count) if count else None

    def ready(self) -> Answer:
        """What it is."""
        if self._servers is None:
            return {"receive_buffer_bytes": None}
        _, port = host_and_port(self._servers[0])
        return {"servers": self._servers, "receive_buffer_bytes": process.receive_buffer_bytes(port)}

    def obey(self, line: str) -> Answer:
        """Does what a line says, and answers it whatever happens."""
        try:
            return self._do(json.loads(line))
        except SkippedError as why:
            return {"skipped": str(why)}
        except Exception as error:
            traceback.print_exc()
            return {"error": in_a_line(error)}

    def close(self) -> None:
        """Ends clients and servers."""
        self._peer.close()

    def _do(self, order: Order) -> Answer:
        if order["do"] == "usage":
            return {"cpu_s": process.cpu_s(), "rss_bytes": process.rss_bytes()}
        if order["do"] == "stop":
            self.close()
            return {"stopped": True}
        if order["do"] == "restart":
            return {"ready": self._restart(order["down_ms"] / 1e3)}
        if not self._is_client:
            raise ValueError("this peer has no client")
        return self._peer.obey(order, self._servers)

    def _restart(self, down_s: float) -> Answer:
        """Stops, waits, starts on the same ports; says for how long nobody listened."""
        if self._servers is None:
            raise ValueError("this peer has no server")
        self._peer.stop_servers()
        stopped = time.perf_counter()
        time.sleep(down_s)
        self._servers = self._peer.serve([host_and_port(at)[1] for at in self._servers])
        return {**self.ready(), "down_ms": (time.perf_counter() - stopped) * 1e3}


if __name__ == "__main__":
    main()
