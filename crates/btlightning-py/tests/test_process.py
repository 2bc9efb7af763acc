"""What a process has one of: signals, forks, the exit. Each in an interpreter of its own."""

from __future__ import annotations

import os
import sys

import pytest
from world import program

START = """
import threading
from btlightning import Lightning, LightningServer

def hang(data):
    begun.set()
    gate.wait()
    return {}

begun, gate = threading.Event(), threading.Event()
server = LightningServer(host="127.0.0.1", port=0, signer=b"m" * 32)
server.register_synapse_handler("echo", lambda data: data)
server.register_synapse_handler("hang", hang)
server.start()
serving = threading.Thread(target=server.serve_forever, daemon=True)
serving.start()
client = Lightning(signer=b"v" * 32)
miner = {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}
client.initialize_connections([miner])
assert client.query(miner, "echo", {"a": 1}).data == {"a": 1}
"""


def ends(source: str, says: str = "done", status: int = 0) -> None:
    """The program ends by itself, says the last word, and nothing on the side."""
    ended = program(START + source)
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (status, says.split(), ""), ended.stderr


def test_a_program_ends_with_everything_still_open() -> None:
    ends("print('done')")


def test_a_program_ends_while_threads_wait_and_a_handler_hangs() -> None:
    ends(
        """
def ask():
    try:
        client.query(miner, "hang", {})
    except Exception as error:
        pass

for _ in range(8):
    threading.Thread(target=ask, daemon=True).start()
begun.wait()
print('done')
"""
    )


def test_a_program_ends_in_the_middle_of_a_stream_and_a_fan_out() -> None:
    ends(
        """
def forever(data):
    while True:
        yield b"x"

server.register_streaming_handler("forever", forever)
chunks = client.stream(miner, "forever", {})
next(chunks)
answers = client.fan_out([miner], "hang", {})
begun.wait()
print('done')
"""
    )


def test_an_event_loop_that_was_never_closed_is_no_trouble() -> None:
    ends(
        """
import asyncio
from btlightning import AsyncLightning

loop = asyncio.new_event_loop()
other = AsyncLightning(signer=b"v" * 32)
assert loop.run_until_complete(other.query(miner, "echo", {"a": 2})).data == {"a": 2}
task = loop.create_task(other.query(miner, "hang", {}))
while not begun.is_set():
    loop.run_until_complete(asyncio.sleep(0.001))
task._log_destroy_pending = False
print('done')
"""
    )


def test_objects_may_be_dropped_in_any_order() -> None:
    ends(
        """
import gc
chunks = client.stream(miner, "hang", {})
answers = client.fan_out([miner], "hang", {})
del client
gc.collect()
del server, chunks
gc.collect()
del answers
print('done')
"""
    )


def test_a_handler_may_ask_its_own_server() -> None:
    ends(
        """
def relay(data):
    return client.query(miner, "echo", {"relayed": data}).data

server.register_synapse_handler("relay", relay)
print(client.query(miner, "relay", {"a": 1}).data["relayed"]["a"], 'done')
""",
        "1 done",
    )


def test_a_handler_may_stop_its_own_server() -> None:
    ends(
        """
def stop(data):
    server.stop()
    return {}

server.register_synapse_handler("stop", stop)
try:
    client.query(miner, "stop", {}, timeout=10)
except ConnectionError:
    pass
serving.join(20)
print(serving.is_alive(), 'done')
""",
        "False done",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_ctrl_c_ends_a_query() -> None:
    ends(
        """
import os, signal
threading.Thread(target=lambda: (begun.wait(), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
try:
    client.query(miner, "hang", {})
except KeyboardInterrupt:
    print('interrupted', end=' ')
print(client.query(miner, "echo", {"still": "good"}).data["still"], 'done')
""",
        "interrupted good done",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_is_refused_what_its_parent_has_and_makes_its_own() -> None:
    ends(
        """
import os, warnings
from btlightning import ForkError, LightningError
warnings.simplefilter("ignore")
chunks = client.stream(miner, "hang", {})
read, write = os.pipe()
child = os.fork()
if child == 0:
    said = []
    for attempt in [
        lambda: client.query(miner, "echo", {}),
        lambda: client.query_axon(miner, {"synapse_type": "echo", "data": {}}),
        lambda: client.peers(),
        lambda: client.close(),
        lambda: next(chunks),
        lambda: server.get_connection_stats(),
        lambda: server.stop(),
    ]:
        try:
            attempt()
            said.append("nothing")
        except RuntimeError as error:
            assert isinstance(error, ForkError) and isinstance(error, LightningError)
            assert "spawn" in str(error) and error.reason == "forked" and not error.retryable
            said.append("refused")
    del client, chunks
    own = Lightning(signer=b"v" * 32)
    own.initialize_connections([miner])
    said.append(own.query(miner, "echo", {"own": "works"}).data["own"])
    with LightningServer(host="127.0.0.1", port=0, signer=b"o" * 32) as other:
        other.register("echo", lambda data: data)
        where = {"hotkey": other.hotkey, "ip": "127.0.0.1", "port": other.port}
        said.append(own.query(where, "echo", {"own": "works"}).data["own"])
    os.write(write, " ".join(said).encode())
    import sys
    sys.exit(0)
_, status = os.waitpid(child, 0)
print(os.read(read, 1000).decode(), status, client.query(miner, "echo", {"a": 1}).data["a"], 'done')
""",
        "refused refused refused refused refused refused refused works works 0 1 done",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_forked_while_io_threads_let_go_of_values_is_not_stuck() -> None:
    ended = program(
        """
import asyncio, os, select, warnings
from btlightning import AsyncLightning, ForkError
warnings.simplefilter("ignore")
values = {"pieces": [b"p" * 4096] * 4000}
nobody = {"hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", "ip": "127.0.0.1", "port": 9}

def child_is_refused(client):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            client.peers()
        except ForkError:
            os.write(write, b"refused")
        os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], 10.0)
    if not ready:
        os.kill(child, 9)
        raise SystemExit("the child is stuck")
    said = os.read(read, 100)
    os.close(read)
    os.waitpid(child, 0)
    return said == b"refused"

async def main():
    client = AsyncLightning(signer=b"v" * 32)
    for _ in range(80):
        asked = [asyncio.ensure_future(client.query(nobody, "echo", values)) for _ in range(2)]
        await asyncio.sleep(0)
        for query in asked:
            query.cancel()
        await asyncio.sleep(0)  # now the values are dropped on I/O threads
        assert child_is_refused(client)
    await asyncio.wait(asked)

asyncio.run(main())
print("done")
"""
    )
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["done"], ""), ended.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_before_the_first_use_is_fine() -> None:
    ended = program(
        """
import os, warnings
import btlightning
warnings.simplefilter("ignore")
child = os.fork()
client = btlightning.Lightning(signer=b"v" * 32)
client.initialize_connections([])
if child:
    _, status = os.waitpid(child, 0)
    print(status, "done")
"""
    )
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["0", "done"], "")


def test_importing_starts_nothing() -> None:
    ended = program(
        """
import threading, os
import btlightning
threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
print(threading.active_count(), threads)
"""
    )
    assert (ended.stdout.split(), ended.stderr) == (["1", "1"], "")


def test_a_program_ends_while_a_signer_is_at_work() -> None:
    ended = program(
        """
import threading, time
from btlightning import Lightning
signing = threading.Event()

def sign(message):
    signing.set()
    while True:  # gives up and takes the GIL all the time, and so is in Python when the interpreter goes
        time.sleep(0.0001)  # sleeps: it stands for a signer that is slow

client = Lightning("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
client.set_python_signer(sign)
from btlightning import LightningServer
server = LightningServer(host="127.0.0.1", port=0, signer=b"m" * 32)
server.__enter__()
miner = {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}
threading.Thread(target=client.initialize_connections, args=([miner],), daemon=True).start()
signing.wait()
print("done")
"""
    )
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["done"], "")


@pytest.mark.parametrize("owner", ["client", "server"])
def test_a_signer_that_is_replaced_may_do_what_it_likes_when_it_goes(owner: str) -> None:
    ends(
        f"""
import gc
went = threading.Event()

class Signer:
    def __call__(self, message):
        return b""

    def __del__(self):
        {owner}.set_python_signer(lambda message: b"")
        went.set()

{owner}.set_python_signer(Signer())
{owner}.set_python_signer(lambda message: b"")
# Whoever used it last lets go of it, and the next call into the client finds what was let go of.
while not went.wait(0.01):
    client.peers()
    gc.collect()
print("done")
"""
    )
