"""
proxy: what stands between members, and does to their connections what a bad network does.

Each member has a port here that the others are told of.  Which member has dialed is seen from whose process
the other end of its connection belongs to: nothing needs to be understood of what passes, TLS included.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from tests.interop.servers import free_ports

PIECE_BYTES = 64 * 1024
PIECES_MAX = 1024  # on their way in one direction, while they are delayed
CALL_SECONDS_MAX = 10.0
ESTABLISHED = "01"  # as /proc/net/tcp says it


class Way(NamedTuple):
    """From one member to another."""

    source: str
    target: str


class Link:
    """One connection, through here."""

    def __init__(self, source: str, target: str, *writers: asyncio.StreamWriter) -> None:
        self.ends = {source, target}
        self.spoiled = False  # some bytes of it were swallowed: it makes no sense any more
        self.writers = writers

    def reset(self) -> None:
        """End it as if the other end were gone, for both ends."""
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """
    The network between members, in a thread.

    Args:
        process_of: The process id of each member that runs now, by name.
    """

    def __init__(self, process_of: Callable[[], Mapping[str, int]]) -> None:
        self._process_of = process_of
        self._loop = asyncio.new_event_loop()
        self._swallowed: set[Way] = set()
        self._delay_seconds = 0.0
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()

    def before(self, name: str, port: int) -> int:
        """Stand before a member, which listens at a port; returns the one of here."""
        [here] = free_ports(1)

        async def listen() -> None:
            async def dialed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._dialed(name, port, reader, writer)

            self._servers.append(await asyncio.start_server(dialed, "127.0.0.1", here))

        self._run(listen())
        return here

    def close(self) -> None:
        """Nothing passes any more, and nothing of it is left."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for link in self._links:
                link.reset()
            await asyncio.sleep(0)  # what was closed is let go of in the next turn

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What the network does.

    def swallow(self, source: str, *targets: str) -> None:
        """What one member sends to others is lost from now on, and nobody is told, not even of an end."""
        self._do(lambda: self._swallowed.update(Way(source, target) for target in targets))

    def isolate(self, name: str, *others: str) -> None:
        """Neither direction between one member and others."""
        self.swallow(name, *others)
        for other in others:
            self.swallow(other, name)

    def heal(self) -> None:
        """All is well again; a connection that has lost something is reset."""

        def heal() -> None:
            self._swallowed.clear()
            for link in self._links:
                if link.spoiled:
                    link.reset()

        self._do(heal)

    def delay(self, seconds: float) -> None:
        """All that is sent takes so long, each way."""

        def delay() -> None:
            self._delay_seconds = seconds

        self._do(delay)

    def reset(self, name: str) -> None:
        """Reset all connections of a member, whoever has dialed."""

        def reset() -> None:
            for link in self._links:
                if name in link.ends:
                    link.reset()

        self._do(reset)

    def _do(self, work: Callable[[], object]) -> None:
        async def call() -> None:
            work()

        self._run(call())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS_MAX)

    # How.

    async def _dialed(
        self, target: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None, "that is what a server runs"
        self._tasks.add(task)
        link = Link("", "", writer)
        try:
            source = owner(writer.get_extra_info("peername")[1], self._process_of())
            onward = await asyncio.open_connection("127.0.0.1", port)
            link = Link(source, target, writer, onward[1])
            self._links.add(link)
            async with asyncio.TaskGroup() as group:
                for way, streams in (
                    (Way(source, target), (reader, onward[1])),
                    (Way(target, source), (onward[0], writer)),
                ):
                    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES_MAX)
                    group.create_task(self._take(pieces, streams[0]))
                    group.create_task(self._send(way, link, pieces, streams[1]))
        except* OSError:
            pass  # either end is gone, and the other is told below
        finally:
            link.reset()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _take(self, pieces: asyncio.Queue[tuple[float, bytes]], reader: asyncio.StreamReader) -> None:
        """One direction of a connection, to its end."""
        data = b"-"
        while data:
            data = await reader.read(PIECE_BYTES)
            await pieces.put((self._loop.time() + self._delay_seconds, data))

    async def _send(
        self,
        way: Way,
        link: Link,
        pieces: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(due - self._loop.time())
            if way in self._swallowed:
                link.spoiled = True
                if not data:
                    await asyncio.Event().wait()  # nobody is told of the end, until it is reset
            elif data:
                writer.write(data)
                await writer.drain()
            else:
                writer.write_eof()
                return


def owner(port: int, processes: Mapping[str, int]) -> str:
    """Whose end of a connection a port of 127.0.0.1 is; empty if that is none of some processes."""
    address = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == address and fields[3] == ESTABLISHED:
            wanted = f"socket:[{fields[9]}]"
            for name, process in processes.items():
                with suppress(OSError):  # it has ended, or the file was closed meanwhile
                    for file in os.scandir(f"/proc/{process}/fd"):
                        with suppress(OSError):
                            if os.readlink(file.path) == wanted:
                                return name
    return ""
