"""Receivers of OTLP logs: a real collector (rotel) as a process, and the protocol's own service, which keeps all."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc.aio
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as messages
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as services

from tests.fakes.ports import free_port

ROTEL = Path(sysconfig.get_paths()["purelib"]) / "rotel/rotel-agent"


def free_roots_port() -> int:
    """One that only root can take."""
    for port in range(1023, 512, -1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("every port below 1024 is taken")


class LogsReceiver(services.LogsServiceServicer):
    """Keeps records and the headers of each call; ``answers`` changes what it says."""

    def __init__(self) -> None:
        self.records = []
        self.resources = []
        self.headers = []
        self.fails_with: grpc.StatusCode | None = None
        self.rejects = 0
        self.hangs = False

    async def Export(self, request, context):  # noqa: N802 - the protocol's name
        self.headers.append(dict(context.invocation_metadata()))
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails_with is not None:
            await context.abort(self.fails_with, "a text with hunter2 in it")
        if self.rejects:
            return messages.ExportLogsServiceResponse(partial_success={"rejected_log_records": self.rejects})
        for resource in request.resource_logs:
            self.resources.append(values_of(resource.resource.attributes))
            for scope in resource.scope_logs:
                self.records.extend(scope.log_records)
        return messages.ExportLogsServiceResponse()

    def bodies(self) -> list[str]:
        return [record.body.string_value for record in self.records]


@asynccontextmanager
async def logs_receiver(port: int, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[LogsReceiver]:
    receiver, server = LogsReceiver(), grpc.aio.server()
    services.add_LogsServiceServicer_to_server(receiver, server)
    if credentials is None:
        server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield receiver
    finally:
        await server.stop(grace=None)


@contextmanager
def rotel(listens: int, sends_to: int) -> Iterator[subprocess.Popen]:
    """A collector that takes OTLP by gRPC on one port and hands logs on to another, by gRPC too."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "rotel"
        shutil.copy(ROTEL, program)
        program.chmod(0o755)
        command = [
            program, "start",
            "--otlp-grpc-endpoint", f"127.0.0.1:{listens}",
            "--otlp-http-endpoint", f"127.0.0.1:{free_port()}",
            "--exporter", "otlp",
            "--otlp-exporter-endpoint", f"http://127.0.0.1:{sends_to}",
            "--otlp-exporter-compression", "none",
        ]  # fmt: skip
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def values_of(attributes) -> dict[str, object]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value) -> object:
    if value.HasField("array_value"):
        return tuple(each.string_value for each in value.array_value.values)
    return value.int_value if value.HasField("int_value") else value.string_value
