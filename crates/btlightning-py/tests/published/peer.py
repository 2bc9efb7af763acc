"""The published package, in an interpreter of its own, told what to do line by line.

Each line of input is ``[command, arguments...]`` as a Python literal; each line of output is ``("ok", value)`` or
``("raised", [names of the exception's classes], message)``, as a Python literal too, with ``nan`` and ``inf`` as names.
"""

import importlib.metadata
import sys
import threading

import btlightning

inf, nan = float("inf"), float("nan")
servers = []
clients = []
permitted = {"hotkeys": []}


def version():
    return importlib.metadata.version("btlightning")


def count(data):
    for number in range(data["to"]):
        yield str(number).encode()
    if data.get("fail"):
        raise RuntimeError("no further")


def fail(data):
    raise RuntimeError("the secret of the miner")


def shape(value):
    """The types of a value, all the way down."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


def serve(hotkey, seed, port, options):
    """Serves on a port, until the end."""
    native = options.pop("native", False)
    if native:
        server = btlightning.RustLightningServer(hotkey, "127.0.0.1", port, **options)
        server.set_validator_permit_resolver(lambda: set(permitted["hotkeys"]))
    else:
        server = btlightning.LightningServer(hotkey, "127.0.0.1", port, **options)
    server.set_miner_keypair(seed)
    server.register_synapse_handler("echo", lambda data: {"got": data})
    server.register_synapse_handler("shape", lambda data: {"shape": shape(data)})
    server.register_synapse_handler("fail", fail)
    server.register_synapse_handler("list", lambda data: [1])
    server.register_streaming_handler("count", count)
    server.start()
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    servers.append((server, serving))


def permit(hotkeys):
    permitted["hotkeys"] = hotkeys


def connect(hotkey, seed, miners):
    client = btlightning.Lightning(hotkey, connect_timeout_secs=2)
    client.set_validator_keypair(seed)
    client.initialize_connections(miners)
    clients.append(client)


def query(axon, name, data, timeout=10.0):
    return clients[-1].query_axon(axon, {"synapse_type": name, "data": data}, timeout_secs=timeout)


def shape_of(axon, name, data):
    return shape(clients[-1].query_axon(axon, {"synapse_type": name, "data": data})["data"])


def stream(axon, name, data):
    return list(clients[-1].query_axon_stream(axon, {"synapse_type": name, "data": data}))


def stats():
    return clients[-1].get_connection_stats()


def stop():
    """Stops the server, and lets go of it: its port is free only then."""
    server, serving = servers.pop()
    server.stop()
    serving.join()


for line in sys.stdin:
    command, *arguments = eval(line)
    try:
        outcome = ("ok", globals()[command](*arguments))
    except BaseException as error:
        outcome = ("raised", [kind.__name__ for kind in type(error).__mro__], str(error))
    print(repr(outcome), flush=True)
