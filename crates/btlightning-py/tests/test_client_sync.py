"""The client for threads: the published calls, and the newer ones."""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from world import (
    MINER,
    PATIENCE,
    STRANGER,
    axon,
    echo,
    in_threads,
    new_async_client,
    new_client,
    new_server,
    silent_port,
)

import btlightning
from btlightning import (
    AxonInfo,
    ClientOptions,
    ConfigError,
    HandlerError,
    HandshakeError,
    Lightning,
    LightningConnectionError,
    LightningError,
    LightningServer,
    LightningTimeoutError,
    Miner,
    QuicAxonInfo,
    RustLightning,
    SerializationError,
    SigningError,
    StreamError,
    SynapseRequest,
)

#: Opens when the miner is stopped.
gate = threading.Event()


def count(data: dict[str, Any]) -> Iterator[bytes]:
    if data.get("wait"):
        gate.wait(PATIENCE)
    for number in range(data["to"]):
        yield str(number).encode()
    if data.get("hang"):
        gate.wait(PATIENCE)
    if data.get("fail"):
        raise RuntimeError("no further")


@pytest.fixture(scope="module")
def miner() -> Iterator[LightningServer]:
    server = new_server(handler_timeout_secs=60)
    gate.clear()

    def fail(data: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("the secret of the miner")

    def hang(data: dict[str, Any]) -> dict[str, Any]:
        gate.wait(PATIENCE)
        return {}

    server.register_synapse_handler("echo", echo)
    server.register_synapse_handler("fail", fail)
    server.register_synapse_handler("hang", hang)
    server.register_streaming_handler("count", count)
    with server:
        yield server
        gate.set()


@pytest.fixture
def client(miner: LightningServer) -> Iterator[Lightning]:
    with new_client() as client:
        client.initialize_connections([axon(miner)])
        yield client


def request(name: str, **data: Any) -> SynapseRequest:
    return {"synapse_type": name, "data": data}


def test_the_published_query_answers_with_a_dict(client: Lightning, miner: LightningServer) -> None:
    response = client.query_axon(axon(miner), request("echo", a=1))
    assert response.keys() == {"success", "data", "latency_ms", "error"}
    assert response["success"] is True and response["data"] == {"a": 1} and response["error"] is None
    assert isinstance(response["latency_ms"], float) and response["latency_ms"] > 0


@pytest.mark.parametrize(
    ("name", "words"),
    [("fail", "request processing failed"), ("nobody", "unrecognized synapse type")],
)
def test_a_failure_of_the_miner_is_told_by_the_dict_or_raised(
    client: Lightning, miner: LightningServer, name: str, words: str
) -> None:
    response = client.query_axon(axon(miner), request(name))
    assert (response["success"], response["data"], response["error"]) == (False, {}, words)
    with pytest.raises(HandlerError, match=words) as raised:
        client.query(axon(miner), name, {})
    assert isinstance(raised.value, RuntimeError)
    assert raised.value.reason == {"fail": "processing_failed", "nobody": "unrecognized_synapse"}[name]
    assert raised.value.retryable is (name == "fail")


def test_a_miner_may_be_named_in_many_ways(client: Lightning, miner: LightningServer) -> None:
    where = axon(miner)

    class Neuron:
        hotkey, ip, port = where["hotkey"], where["ip"], where["port"]

    names: list[Miner] = [
        where,
        {**where, "protocol": 4, "extra": None},
        QuicAxonInfo(where["hotkey"], where["ip"], where["port"], 4),
        Neuron(),
        where["hotkey"],
    ]
    for named in names:
        reply = client.query(named, "echo", {"a": 1})
        assert (reply.data, reply.hotkey) == ({"a": 1}, where["hotkey"])


def test_timings_add_up(client: Lightning, miner: LightningServer) -> None:
    timings = client.query(axon(miner), "echo", {}).timings
    assert 0 < timings.first_byte <= timings.last_byte < PATIENCE
    assert timings.waited >= 0 and timings.sent >= 0
    assert 0 < timings.path_rtt_min <= timings.path_rtt


@pytest.mark.parametrize("key", ["hotkey", "ip", "port"])
def test_a_missing_key_is_named(client: Lightning, miner: LightningServer, key: str) -> None:
    where: dict[str, Any] = dict(axon(miner))
    del where[key]
    with pytest.raises(KeyError, match=f"Missing '{key}' field"):
        client.query_axon(where, request("echo"))
    with pytest.raises(KeyError, match=f"Missing '{key}' field"):
        client.initialize_connections([where])


def test_a_request_has_a_name_and_may_do_without_data(client: Lightning, miner: LightningServer) -> None:
    incomplete: Any = {"data": {}}
    with pytest.raises(KeyError, match="Missing 'synapse_type' field"):
        client.query_axon(axon(miner), incomplete)
    incomplete = {"synapse_type": "echo"}
    assert client.query_axon(axon(miner), incomplete)["data"] == {}


@pytest.mark.parametrize(
    "wrong", [{"port": "1"}, {"port": 1.0}, {"hotkey": 1}, {"ip": 1}, {"ip": None}, {"protocol": None}]
)
def test_fields_of_a_wrong_type_are_type_errors(
    client: Lightning, miner: LightningServer, wrong: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        client.query_axon({**axon(miner), **wrong}, request("echo"))


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_has_sixteen_bits(client: Lightning, miner: LightningServer, port: int) -> None:
    with pytest.raises(OverflowError):
        client.query_axon({**axon(miner), "port": port}, request("echo"))


@pytest.mark.parametrize("ip", ["localhost", "", "256.1.1.1"])
def test_an_address_that_is_none_is_a_connection_error(
    client: Lightning, miner: LightningServer, ip: str
) -> None:
    with pytest.raises(ConnectionError, match="^connection error: "):
        client.query_axon({**axon(miner), "ip": ip}, request("echo"))


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_timeout_is_a_finite_positive_number(
    client: Lightning, miner: LightningServer, timeout: float
) -> None:
    with pytest.raises(
        ValueError, match="^config error: timeout_secs must be a finite positive number, got "
    ):
        client.query_axon(axon(miner), request("echo"), timeout_secs=timeout)
    with pytest.raises(ConfigError):
        client.query(axon(miner), "echo", {}, timeout=timeout)
    with pytest.raises(TypeError):
        client.query_axon(axon(miner), request("echo"), timeout_secs="1")  # type: ignore[arg-type]


def test_a_query_that_takes_too_long_is_a_connection_and_a_timeout_error(
    client: Lightning, miner: LightningServer
) -> None:
    with pytest.raises(LightningTimeoutError, match="^transport error: ") as raised:
        client.query_axon(axon(miner), request("hang"), timeout_secs=0.05)
    assert isinstance(raised.value, ConnectionError) and isinstance(raised.value, TimeoutError)
    assert (raised.value.reason, raised.value.retryable) == ("first_byte_timeout", True)
    with pytest.raises(TimeoutError):
        client.query(axon(miner), "hang", {}, first_byte_timeout=0.05)
    assert client.query(axon(miner), "echo", {"still": "good"}).data == {"still": "good"}


def test_an_answer_is_as_large_as_the_call_allows(client: Lightning, miner: LightningServer) -> None:
    large = {"large": "x" * 5_000}
    with pytest.raises(LightningError, match="4000") as refused:
        client.query(miner.hotkey, "echo", large, answer_bytes_max=4_000)
    (answer,) = client.fan_out([miner.hotkey], "echo", large, answer_bytes_max=4_000)
    assert answer.error is not None and str(answer.error) == str(refused.value)
    with pytest.raises(StreamError, match="4000"):
        client.stream(miner.hotkey, "count", {"to": 100}, answer_bytes_max=4_000).collect()
    assert client.query(miner.hotkey, "echo", large, answer_bytes_max=6_000).data == large
    for bytes_max in (0, -1):
        with pytest.raises(ConfigError, match="answer_bytes_max must be a positive number"):
            client.query(miner.hotkey, "echo", {}, answer_bytes_max=bytes_max)


def test_a_whole_answer_in_chunks_has_a_bound(miner: LightningServer) -> None:
    with new_client(stream_timeout_secs=0.05) as impatient:
        impatient.initialize_connections([axon(miner)])
        with pytest.raises(TimeoutError):
            impatient.stream(miner.hotkey, "count", {"to": 1, "hang": True}).collect()
        assert impatient.stream(miner.hotkey, "count", {"to": 3}, stream_timeout=30).collect()
    with new_client() as client:
        client.initialize_connections([axon(miner)])
        with pytest.raises(TimeoutError):
            client.stream(miner.hotkey, "count", {"to": 1, "hang": True}, stream_timeout=0.05).collect()


def test_before_it_is_initialized_a_published_query_fails(miner: LightningServer) -> None:
    client = new_client()
    with pytest.raises(ConnectionError, match="^connection error: QUIC endpoint not initialized$"):
        client.query_axon(axon(miner), request("echo"))
    with pytest.raises(ConnectionError, match="endpoint not initialized"):
        client.query_axon_stream(axon(miner), request("count", to=1))
    with pytest.raises(ConnectionError, match="endpoint not initialized"):
        client.update_miner_registry([])
    assert client.get_connection_stats() == {"total_connections": "0", "active_miners": "0"}
    # The newer calls bind their sockets themselves.
    assert client.query(axon(miner), "echo", {"a": 1}).data == {"a": 1}
    client.close()
    client.close()


def test_nothing_is_dialled_without_a_signer(miner: LightningServer) -> None:
    client = Lightning("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
    for miners in [[], [axon(miner)]]:
        with pytest.raises(SigningError, match="No signer configured") as raised:
            client.initialize_connections(miners)
        assert isinstance(raised.value, RuntimeError)
    with pytest.raises(ConfigError):
        Lightning()


def test_a_miner_that_is_somebody_else_is_told_apart(miner: LightningServer) -> None:
    stranger = btlightning.hotkey_of_seed(STRANGER)
    with new_client() as client:
        client.initialize_connections([{**axon(miner), "hotkey": stranger}])
        peer = client.peer(stranger)
        assert peer is not None
        assert (peer.state, peer.reason, peer.connected) == ("refused", "wrong_hotkey", False)
        with pytest.raises(HandshakeError, match="^handshake error: ") as raised:
            client.query_axon({**axon(miner), "hotkey": stranger}, request("echo"))
        assert isinstance(raised.value, ConnectionError)
        assert raised.value.reason == "wrong_hotkey" and not raised.value.retryable


def test_nobody_at_the_address_is_a_connection_error_with_its_reason() -> None:
    nobody: AxonInfo = {"hotkey": btlightning.hotkey_of_seed(MINER), "ip": "127.0.0.1", "port": silent_port()}
    with new_client(connect_timeout_secs=0.1) as client:
        client.initialize_connections([nobody])
        peer = client.peer(nobody["hotkey"])
        assert peer is not None
        assert (peer.state, peer.reason, peer.failures) == ("backing_off", "unanswered", 1)
        assert peer.retry_in is not None and peer.detail is not None
        with pytest.raises(LightningConnectionError):
            client.query(nobody, "echo", {}, timeout=0.05)


def test_the_registry_is_replaced_and_its_state_is_seen(miner: LightningServer) -> None:
    with new_client() as client:
        client.initialize_connections((axon(miner),))
        assert [(peer.hotkey, peer.connected) for peer in client.peers()] == [(miner.hotkey, True)]
        stats: Any = client.get_connection_stats()
        assert stats == {
            "total_connections": "1",
            "active_miners": "1",
            f"connection_127.0.0.1:{miner.port}": "active",
        }
        changes = client.peer_changes(timeout=PATIENCE)
        client.update_miner_registry([])
        assert client.peers() == []
        assert client.peer(miner.hotkey) is None
        assert any(peer.state == "closed" for peer in changes)


def test_chunks_come_one_by_one(client: Lightning, miner: LightningServer) -> None:
    assert list(client.query_axon_stream(axon(miner), request("count", to=3))) == [b"0", b"1", b"2"]
    with client.stream(miner.hotkey, "count", {"to": 5}) as chunks:
        assert next(chunks) == b"0"
        assert chunks.timings is not None and chunks.timings.first_byte > 0
        assert chunks.collect() == b"1234"
        assert list(chunks) == []
    assert chunks.timings is None


def test_a_stream_that_fails_does_not_just_end(client: Lightning, miner: LightningServer) -> None:
    chunks = client.query_axon_stream(axon(miner), request("count", to=2, fail=True))
    assert [next(chunks), next(chunks)] == [b"0", b"1"]
    with pytest.raises(StreamError, match="stream processing failed") as raised:
        next(chunks)
    assert isinstance(raised.value, RuntimeError)
    with pytest.raises(RuntimeError):
        next(client.query_axon_stream(axon(miner), request("nobody")))


def test_a_stream_that_is_left_is_closed(client: Lightning, miner: LightningServer) -> None:
    chunks = client.stream(axon(miner), "count", {"to": 10**9})
    assert next(chunks) == b"0"
    chunks.close()
    assert list(chunks) == []


def test_a_fan_out_has_exactly_one_answer_a_miner(client: Lightning, miner: LightningServer) -> None:
    nobody = btlightning.hotkey_of_seed(STRANGER)
    answers = {answer.hotkey: answer for answer in client.fan_out([axon(miner), nobody], "echo", {"a": 1})}
    assert set(answers) == {miner.hotkey, nobody}
    assert answers[miner.hotkey].ok and answers[miner.hotkey].data == {"a": 1}
    assert answers[miner.hotkey].timings.last_byte > 0
    missing = answers[nobody]
    assert missing.error is not None and missing.error.reason == "unknown_peer"
    with pytest.raises(LightningConnectionError):
        missing.result()
    with pytest.raises(LightningConnectionError):
        missing.data  # noqa: B018


def test_large_answers_of_a_fan_out_are_not_decoded_all_at_once(client: Lightning) -> None:
    servers = [new_server(bytes([seed]) * 32) for seed in range(1, 7)]
    with contextlib.ExitStack() as running:
        for server in servers:
            server.register("large", lambda data: {"bytes": bytes(600 * 1024)})
            running.enter_context(server)
        calls = client.fan_out([axon(server) for server in servers], "large", {})._calls
        batches = [calls.next()]
        # sleeps: nothing tells that all the answers are there; were they not, the test would pass and show nothing.
        time.sleep(0.5)
        while batches[-1]:
            batches.append(calls.next())
        # With the second of them there are more than 1 MiB.
        assert max(len(batch) for batch in batches) <= 2
        assert sum(len(batch) for batch in batches) == len(servers)


def test_types_go_in_and_come_out(client: Lightning, miner: LightningServer) -> None:
    @dataclass
    class Point:
        x: int
        y: float
        label: str = "here"

    assert client.query(axon(miner), "echo", Point(1, 2.5), returns=Point).data == Point(1, 2.5)
    with pytest.raises(SerializationError, match="x") as raised:
        client.query(axon(miner), "echo", {"y": 1.0}, returns=Point)
    assert isinstance(raised.value, ValueError)
    [answer] = client.fan_out([axon(miner)], "echo", {"x": "no", "y": 1.0}, returns=Point)
    assert isinstance(answer.error, SerializationError)


def test_a_value_that_cannot_be_sent_names_its_key(client: Lightning, miner: LightningServer) -> None:
    with pytest.raises(TypeError, match=r"""data\["a"\]\[1\]"""):
        client.query_axon(axon(miner), request("echo", a=[1, {1, 2}]))


def test_every_setting_is_a_keyword_of_both_clients() -> None:
    keywords = inspect.signature(Lightning).parameters
    for name in ClientOptions.__annotations__:
        value: Any = 2**26 if name.endswith("_bytes") else 40
        for options in [{name: value}, {name: None}]:
            new_client(**options)
            new_async_client(**options)
        assert keywords[name].default == (60.0 if name == "reconnect_slow_probe_interval_secs" else None)
    assert len(ClientOptions.__annotations__) == 14
    with pytest.raises(TypeError, match="max_conections"):
        new_async_client(max_conections=1)


def test_settings_out_of_bounds_are_value_errors() -> None:
    settings: list[dict[str, Any]] = [
        {"connect_timeout_secs": 0},
        {"keep_alive_interval_secs": 200},
        {"max_frame_payload_bytes": 1},
        {"reconnect_max_retries": 0},
    ]
    for wrong in settings:
        with pytest.raises(ValueError):
            new_client(**wrong)


def test_the_other_published_name_takes_its_arguments_in_its_own_order(miner: LightningServer) -> None:
    client = RustLightning(
        btlightning.hotkey_of_seed(b"v" * 32), 10, 150, 30, 1, 60, 5, 16, 1 << 20, 1 << 20, 5
    )
    client.set_validator_keypair(b"v" * 32)
    client.initialize_connections([axon(miner)])
    response = client.query_axon(axon_data=axon(miner), request_data=request("echo", a=1), timeout_secs=5)
    assert response["data"] == {"a": 1}
    assert list(client.query_axon_stream(axon_data=axon(miner), request_data=request("count", to=1))) == [
        b"0"
    ]
    client.close_all_connections()


def test_many_threads_ask_at_once(client: Lightning, miner: LightningServer) -> None:
    def work(number: int) -> int:
        return sum(client.query(axon(miner), "echo", {"n": number}).data["n"] for _ in range(20))

    assert in_threads(16, work) == [20 * number for number in range(16)]


def test_other_threads_run_while_one_waits(client: Lightning, miner: LightningServer) -> None:
    waiting = client.stream(axon(miner), "count", {"to": 0, "wait": True})
    reader = threading.Thread(target=lambda: list(waiting), daemon=True)
    reader.start()
    for number in range(100):
        assert client.query(axon(miner), "echo", {"n": number}).data == {"n": number}
    assert reader.is_alive()
    waiting.close()
    reader.join(PATIENCE)
    assert not reader.is_alive()


def test_a_seed_is_bytes_and_not_a_number() -> None:
    client = new_client()
    for seed in [b"v" * 32, bytearray(b"v" * 32), memoryview(b"v" * 32), [1] * 32, (1,) * 32]:
        client.set_validator_keypair(seed)
    for wrong in [32, None, "v" * 32, {1}]:
        with pytest.raises(TypeError):
            client.set_validator_keypair(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a sequence of length 32"):
        client.set_validator_keypair(b"short")


def test_one_miner_is_not_a_list_of_miners(client: Lightning, miner: LightningServer) -> None:
    ones: list[Any] = [axon(miner), miner.hotkey, QuicAxonInfo(miner.hotkey, "127.0.0.1", 1)]
    for one in ones:
        with pytest.raises(TypeError, match="a list of miners"):
            client.initialize_connections(one)
        with pytest.raises(TypeError, match="a list of miners"):
            client.update_miner_registry(one)
        with pytest.raises(TypeError, match="a list of miners"):
            client.fan_out(one, "echo", {})


def test_a_client_knows_whose_it_is() -> None:
    hotkey = btlightning.hotkey_of_seed(b"v" * 32)
    assert (new_client().hotkey, Lightning(hotkey).wallet_hotkey) == (hotkey, hotkey)
    with pytest.raises(ConfigError, match="the signer signs for"):
        Lightning(hotkey, signer=STRANGER)
    assert new_client().peer("garbage") is None


def test_a_miner_that_is_named_again_is_no_news(
    client: Lightning, miner: LightningServer, caplog: pytest.LogCaptureFixture
) -> None:
    client.initialize_connections([axon(miner)])
    client.initialize_connections([axon(miner)])
    assert client.query(axon(miner), "echo", {}).data == {}
    btlightning.refresh_log_level()
    assert not [record for record in caplog.records if "left out" in record.getMessage()]


def test_the_fields_of_an_axon_may_be_changed(client: Lightning, miner: LightningServer) -> None:
    info = QuicAxonInfo(miner.hotkey, "192.0.2.1", 1, 4)
    info.ip, info.port = "127.0.0.1", miner.port
    assert client.query(info, "echo", {"a": 1}).data == {"a": 1}


def test_clients_say_who_they_are() -> None:
    client = new_client()
    assert repr(client) == f"<btlightning.Lightning of {client.hotkey}>"
