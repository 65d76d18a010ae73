"""What is done otherwise than in redis-py 8: how connections are lent, commands sent and sentinels asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

#: Commands of one client that are under way at once; Redis answers one after the other, more only take memory.
MOST_AT_ONCE = 64
#: Seconds that a command waits for a connection while so many are under way.
_PATIENCE = 5.0


class Client(Redis):
    """Keeps the connections of its commands.

    redis-py borrows a connection for each command and gives it back, which takes longer than most answers of Redis, and
    a command is refused where all are lent; here it waits.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept: asyncio.LifoQueue[Any] = asyncio.LifoQueue()  # the one used last is the likeliest to be sound
        self._number = 0

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        connection = await self._lent()
        try:
            if not connection.is_connected or await connection.can_read():  # cut off, or out of step
                await self.connection_pool.ensure_connection(connection)
            try:
                return await self._asked(connection, words, options)
            except (RedisConnectionError, RedisTimeoutError):
                await connection.disconnect()
            return await connection.retry.call_with_retry(
                lambda: self._asked(connection, words, options), lambda _error: connection.disconnect()
            )
        finally:
            self._kept.put_nowait(connection)

    async def _lent(self) -> Any:
        if not self._kept.empty():
            return self._kept.get_nowait()
        if self._number < MOST_AT_ONCE:
            self._number += 1
            return self.connection_pool.get_available_connection()  # type: ignore[no-untyped-call]
        async with asyncio.timeout(_PATIENCE):
            return await self._kept.get()

    async def _asked(self, connection: Any, words: tuple[Any, ...], options: dict[str, Any]) -> Any:
        await connection.send_command(*words)
        return await self.parse_response(connection, words[0], **options)


class Sending:
    """A connection that sends without `asyncio.wait_for`, and packs commands in C, as redis-py does not.

    On Python 3.11 `wait_for` may swallow a cancellation, so that a task that was told to stop goes on; and it makes a
    task for every single command. A submission has thirty words: in Python, packing them costs more than sending them.
    """

    def pack_command(self: Any, *words: Any) -> list[bytes]:
        name = words[0].split() if isinstance(words[0], str) else words[:1]
        try:
            return [hiredis.pack_command((*name, *words[1:]))]
        except (UnicodeEncodeError, TypeError):  # bytes that are no text, or a kind of word that only redis-py knows
            return list(super().pack_command(*words))  # type: ignore[misc]

    async def send_packed_command(self: Any, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()
        if self._writer is None:  # another task found the server gone, and closed what was being opened here
            raise RedisConnectionError("The connection was closed meanwhile.")
        text = command.encode() if isinstance(command, str) else command
        try:
            self._writer.writelines([text] if isinstance(text, bytes) else text)
            if self._writer.transport.get_write_buffer_size():  # the server does not read as fast as we write
                async with asyncio.timeout(self.socket_timeout):
                    await self._writer.drain()
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Error while writing to socket: {error}.") from error
        except BaseException:
            # Nobody knows how much of the command was sent: this connection is of no more use.
            await self.disconnect(nowait=True)
            raise


class Sentinels(Sentinel):
    """Asks for one caller after the other.

    redis-py puts the sentinel that answered first in its list; where two callers do that at once, the list names one
    sentinel twice and another no more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._one_at_a_time = asyncio.Lock()

    async def discover_master(self, service_name: str) -> Any:
        async with self._one_at_a_time:
            return await super().discover_master(service_name)
