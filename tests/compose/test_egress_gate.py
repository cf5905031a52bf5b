"""The gate: who is on the list is reached, nobody else, and nothing but a CONNECT is answered."""

import asyncio
from collections.abc import Awaitable, Callable
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]
Talk = Callable[[int, int], Awaitable[bytes]]  # the gate's port, an upstream's port


def through_the_gate(gate: ModuleType, talk: Talk, *, allow: bool = True) -> bytes:
    """Run gate and an upstream that shouts back; return what `talk` got."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    async def main() -> bytes:
        upstream = await asyncio.start_server(shout, "127.0.0.1", 0)
        port = upstream.sockets[0].getsockname()[1]
        allowed = frozenset({f"127.0.0.1:{port}"} if allow else ())
        server = await asyncio.start_server(gate.handler(allowed), "127.0.0.1", 0)
        async with upstream, server:
            return await asyncio.wait_for(talk(server.sockets[0].getsockname()[1], port), 10)

    return asyncio.run(main())


async def said(port: int, request: bytes, then: bytes = b"") -> bytes:
    """What the gate answers to a request, and to what follows once it answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.readuntil(b"\r\n\r\n")
    if then:
        writer.write(then)
        writer.write_eof()
        answer += await reader.read()
    writer.close()
    return answer


def test_bytes_pass_both_ways_to_a_host_on_the_list(deploy_script: Load) -> None:
    async def talk(gate: int, upstream: int) -> bytes:
        request = f"CONNECT 127.0.0.1:{upstream} HTTP/1.1\r\nHost: x\r\n\r\n"
        return await said(gate, request.encode(), b"hello")

    answer = through_the_gate(deploy_script("egress_gate"), talk)

    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\nHELLO"


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT 127.0.0.1:{port} HTTP/1.1",
        "GET http://127.0.0.1:{port}/ HTTP/1.1",
        "GET 127.0.0.1:{port} HTTP/1.1",
        "CONNECT 127.0.0.1:{port}@elsewhere HTTP/1.1",
        "CONNECT",
        "",
    ],
)
def test_nobody_else_is_reached(deploy_script: Load, request_line: str) -> None:
    async def talk(gate: int, upstream: int) -> bytes:
        return await said(gate, f"{request_line.format(port=upstream)}\r\n\r\n".encode())

    # The first is refused only because the list is empty; the others even if it is not.
    allow = not request_line.startswith("CONNECT 127.0.0.1:{port} ")
    answer = through_the_gate(deploy_script("egress_gate"), talk, allow=allow)

    assert answer.startswith(b"HTTP/1.1 403")


def test_a_dead_host_is_a_502_and_ends_nothing_else(deploy_script: Load) -> None:
    module = deploy_script("egress_gate")

    async def main() -> bytes:
        target = "127.0.0.1:1"
        server = await asyncio.start_server(module.handler(frozenset({target})), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            await said(port, f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
            return await said(port, f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())

    assert asyncio.run(main()).startswith(b"HTTP/1.1 502")
