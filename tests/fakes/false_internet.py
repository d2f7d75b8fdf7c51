"""An https proxy behind which every host is one loopback server, with certificates of an authority of its own.

For programs whose servers can't be configured: they are given the proxy and the authority, and take what answers for
the vendor. Nothing leaves the machine.
"""

import asyncio
import contextlib
import datetime as dt
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)
_TURNS = 20


class Authority:
    """Makes one certificate for all the hosts; ``pem`` is what a client must trust."""

    def __init__(self, hosts: tuple[str, ...]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "false internet")])
        root = _builder(name, name, key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self.pem = root.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        self._key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "every host")])
        leaf = _builder(subject, name, self._key.public_key()).add_extension(names, False)
        self._leaf = leaf.sign(key, hashes.SHA256())

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        encoding = serialization.Encoding.PEM
        with tempfile.TemporaryDirectory() as folder:
            chain = Path(folder, "pem")
            plain = serialization.NoEncryption()
            key = self._key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
            chain.write_bytes(key + self._leaf.public_bytes(encoding))
            context.load_cert_chain(chain)
        return context


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - _DAY).not_valid_after(now + _DAY)


class Proxy:
    """Answers CONNECT to one of the hosts with a tunnel to the loopback server; ``hosts`` is who was asked for."""

    def __init__(self, hosts: tuple[str, ...], port: int) -> None:
        self._known, self._to = hosts, port
        self.hosts: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End it and every tunnel: what still ran when its loop is closed would end in somebody else's test."""
        await _turns()  # whoever is just being accepted begins
        if self._server is not None:
            self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)
        await _turns()  # the other ends live in the same loop, and see it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            await _closed(writer)
            del self._open[task]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii", "replace").split()
        host = head[1].partition(":")[0]
        self.hosts.append(host)
        if head[0] != "CONNECT" or host not in self._known:
            writer.write(b"HTTP/1.1 502 Nobody there\r\nContent-Length: 0\r\n\r\n")
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._to)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            await _closed(inner_writer)


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
