"""gRPC, with TLS and a self-signed certificate: bytes in, bytes out, no protobuf. The client does not prove who it is."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

# It would say of every connection that was closed.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orders import measure, threads
from orders.protocol import ServerAt

SERVICE, METHOD = "bench.Echo", "Echo"

#: As many handlers as the benchmark has requests in flight.
HANDLER_THREADS = 32

#: The largest message; gRPC's default is 4 MiB.
MESSAGE_BYTES_MAX = 64 << 20

_SIZES = [
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
]

#: Without the last, all channels of a process to one server share a connection.
_CHANNEL = [*_SIZES, ("grpc.use_local_subchannel_pool", 1)]


def peer() -> threads.Peer:
    """A peer of gRPC."""
    return threads.Peer(System())


class System:
    """Servers that share a certificate, and their clients."""

    def __init__(self) -> None:
        self._certificate: tuple[bytes, bytes] | None = None

    def serve(self, ports: Sequence[int]) -> list[Server]:
        """Starts servers on 127.0.0.1."""
        if self._certificate is None:
            self._certificate = _self_signed()
        key, certificate = self._certificate
        return [Server(key, certificate, port) for port in ports]

    def connect(self, servers: Sequence[ServerAt], identity: int) -> Client:
        """A client; a server that cannot be reached is missing in its count."""
        return Client(servers)


class Server:
    """One server, with threads of its own."""

    def __init__(self, key: bytes, certificate: bytes, port: int) -> None:
        # Messages are bytes already: without serializers they are passed on as they are.
        echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        self._pool = ThreadPoolExecutor(HANDLER_THREADS)
        self._server = grpc.server(
            self._pool,
            handlers=[grpc.method_handlers_generic_handler(SERVICE, {METHOD: echo})],
            options=[*_SIZES, ("grpc.so_reuseport", 0)],
        )
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self._server.start()
        self.at: ServerAt = {"addr": f"127.0.0.1:{port}", "key": certificate.decode()}

    def stop(self) -> None:
        """Stops it."""
        self._server.stop(grace=None).wait()
        self._pool.shutdown()


class Client:
    """A channel to each server."""

    def __init__(self, servers: Sequence[ServerAt]) -> None:
        self._channels = [_channel(at) for at in servers]
        self._calls = [channel.unary_unary(f"/{SERVICE}/{METHOD}") for channel in self._channels]
        ready = [grpc.channel_ready_future(channel) for channel in self._channels]
        self._connected = 0
        for future in ready:
            try:
                future.result(timeout=measure.ECHO_TIMEOUT_S)
                self._connected += 1
            except grpc.FutureTimeoutError:
                future.cancel()

    def connected(self) -> int:
        """How many channels came to be ready."""
        return self._connected

    def echo(self, server: int, payload: bytes, timeout_s: float) -> bytes:
        """Asks one server."""
        answer: bytes = self._calls[server](payload, timeout=timeout_s)
        return answer

    def fan_out(self, payload: bytes) -> list[bytes]:
        """Asks all servers, and then waits for all of them."""
        asked = [call.future(payload, timeout=measure.ECHO_TIMEOUT_S) for call in self._calls]
        return [answer.result() for answer in asked]

    def close(self) -> None:
        """Closes its connections."""
        for channel in self._channels:
            channel.close()


def _channel(at: ServerAt) -> grpc.Channel:
    return grpc.secure_channel(at["addr"], grpc.ssl_channel_credentials(at["key"].encode()), options=_CHANNEL)


def _self_signed() -> tuple[bytes, bytes]:
    """A new key and its certificate for 127.0.0.1, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "btlightning benchmark")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)
