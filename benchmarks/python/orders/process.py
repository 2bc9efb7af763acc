"""What the operating system says of this process, and lets it have."""

from __future__ import annotations

import os
import resource
import socket
import time


def cpu_s() -> float:
    """Processor time of all threads so far, user and system together."""
    return time.process_time()


def rss_bytes() -> int | None:
    """The resident set; ``None`` where there is no ``/proc``."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        return None


def receive_buffer_bytes(port: int) -> int | None:
    """The receive buffer of this process's UDP socket on ``port``, as the kernel counts it (Linux: twice what was granted).

    ``None`` if there is no such socket, or no ``/proc``.
    """
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except FileNotFoundError:
        return None
    for descriptor in descriptors:
        try:
            with socket.socket(fileno=os.dup(descriptor)) as found:
                if found.type == socket.SOCK_DGRAM and found.getsockname()[1] == port:
                    return found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        except (OSError, IndexError):
            continue  # closed meanwhile, no socket, or one without a port
    return None


def raise_open_files() -> None:
    """Allows as many open files as the system lets this process have: hundreds of servers have a socket or two each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port(kind: socket.SocketKind) -> int:
    """A port of 127.0.0.1 that nobody has, for a system that cannot say which one it was given. It may be taken again
    before it is used: whoever uses it tries again."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
