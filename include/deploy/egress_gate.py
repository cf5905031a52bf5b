"""The one door out of the networks that have none: an HTTPS proxy with a list of who is reached.

Training and promotion run on internal networks, and their store may be anywhere. This lets them
open connections to the hosts on the list (`RETRAINING_EGRESS`, `host:port` separated by spaces) and
to nobody else; what passes is TLS from end to end and not looked into. Standard library only.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

_CHUNK_BYTES = 1 << 16
_MAX_REQUEST_BYTES = 8192
_REQUEST_SECONDS = 10
_CONNECT_SECONDS = 10

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def handler(allowed: frozenset[str]) -> Handler:
    """Return what serves one client that may reach `allowed` (`host:port`, in lower case)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _serve(reader, writer, allowed)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, or said nothing that we understand
        finally:
            writer.close()

    return serve


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: frozenset[str]
) -> None:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_SECONDS)
    method, target, *_ = [*head.decode("latin-1").split(" ", 2), "", ""]
    target = target.lower()
    if method != "CONNECT" or target not in allowed:
        print(f"refused: {method[:10]!r} {target[:200]!r}", flush=True)
        await _answer(writer, "403 Forbidden")
        return
    host, _, port = target.rpartition(":")
    try:
        out = await asyncio.wait_for(asyncio.open_connection(host, int(port)), _CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        print(f"not reached: {target}: {type(error).__name__}", flush=True)
        await _answer(writer, "502 Bad Gateway")
        return
    await _answer(writer, "200 Connection established")
    try:
        await asyncio.gather(_pass_on(reader, out[1]), _pass_on(out[0], writer))
    finally:
        out[1].close()


async def _answer(writer: asyncio.StreamWriter, status: str) -> None:
    writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
    await writer.drain()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def main() -> None:
    """Serve until the end."""
    allowed = frozenset(os.environ.get("RETRAINING_EGRESS", "").lower().split())
    if wrong := [item for item in allowed if not item.rpartition(":")[2].isdigit()]:
        sys.exit(f"RETRAINING_EGRESS: found {wrong}, expected host:port, separated by spaces.")
    server = await asyncio.start_server(
        handler(allowed),
        "0.0.0.0",  # noqa: S104 - of its container, which publishes nothing
        3128,
        limit=_MAX_REQUEST_BYTES,
    )
    print(f"May be reached: {', '.join(sorted(allowed)) or 'nobody'}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
