"""Keyspace notifications: one subscription manager for a process, shared by everybody who waits in it.

Pub/sub loses messages, so a notification is only ever a hint. Whoever waits gets woken by an event on the key, by
every reconnection (events may have been missed), and at the end of the period that it names itself; and then it reads
the truth from the store. All work is done with notifications switched off, only later.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Protocol

import structlog
from redis.asyncio import RedisCluster
from redis.asyncio.keyspace_notifications import AsyncKeyspaceNotifications
from redis.keyspace_notifications import KeyspaceChannel

from shared.jobs.connection import AWAY, COMMAND_TIMEOUT, RedisError, at_node, close, connect, database, slot_holder
from shared.lifecycle import ended

log = structlog.get_logger(__name__)

#: What has to be switched on: keyspace channels for string and hash events.
NEEDED_EVENTS = "K$h"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
#: Seconds that receiving waits for an event before it looks whether the connection still stands.
_PERIOD = 5.0
#: A key that never has events: keeps the connection subscribed when nobody watches anything, and is subscribed last,
#: so that its confirmation, after each connection, the silent ones of redis-py too, means that all others stand.
_NONE = "none"


class Watch:
    """A waiter for events on some keys."""

    def __init__(self, tell: Callable[[], None] | None = None) -> None:
        """Start unset; ``tell`` is called at each event too, for who waits for other things as well."""
        self._event = asyncio.Event()
        self._tell = tell

    def set(self) -> None:
        """Wake the waiter."""
        self._event.set()
        if self._tell is not None:
            self._tell()

    async def wait(self, period: float | None = None) -> bool:
        """Wait for an event, a reconnection or the end of the period (s); return False for the last.

        Events that came since the last wait end the wait at once.
        """
        try:
            async with asyncio.timeout(period):
                await self._event.wait()
        except TimeoutError:
            return False
        finally:
            self._event.clear()
        return True


class Wakeable(Protocol):
    """Who is told that there may be something new."""

    def set(self) -> None:
        """Look, soon; called at each event and after a reconnection."""


class Notifications:
    """The subscriptions of one process, on one connection.

    Run `run` as a background task; `watch` may be used before, during and after trouble with the connection.
    """

    def __init__(self, url: str, prefix: str) -> None:
        """Prepare; nothing is sent before `run`."""
        # Waiting for an event has its own timeout; this one bounds what a reconnection may wait for an answer.
        self._client = connect(url)
        self._url = url
        self._database = database(url)
        self._prefix = prefix
        self._channels = str(self._channel(""))
        self._watches: dict[str, list[Wakeable]] = {}
        self._subscriptions: _Subscriptions | None = None
        #: Keys whose subscription was sent and not yet confirmed: set when it is, or when there is none to wait for.
        self._unconfirmed: dict[str, asyncio.Event] = {}
        self._ready = asyncio.Event()
        self._told = ""
        self._reconnected = asyncio.Event()
        self._connection: asyncio.Task[None] | None = None
        self._pause = _FIRST_PAUSE
        self.reconnections = 0

    async def add(self, who: Wakeable, *keys: str) -> None:
        """Have somebody told of events on exact keys (named without the prefix) until `remove`.

        The subscription is in force on return, if Redis can be reached: an event that follows is not missed.
        """
        fresh = [key for key in keys if key not in self._watches]
        for key in keys:
            self._watches.setdefault(key, []).append(who)
        await self._subscribe(fresh)
        await self._confirmed(keys)

    @contextlib.asynccontextmanager
    async def watch(self, *keys: str, using: Watch | None = None) -> AsyncIterator[Watch]:
        """Watch exact keys (named without the prefix) while the context lasts.

        ``using`` gives a watch of the caller's own, whose `Watch.set` may do something else than wake a waiter.

        The subscription is in force when the context is entered, if Redis can be reached: an event that follows the
        entering is not missed.
        """
        watch = using or Watch()
        try:
            await self.add(watch, *keys)
            yield watch
        finally:
            await self.remove(watch, *keys)

    async def run(self) -> None:
        """Receive events until cancelled; reconnects with back-off and jitter."""
        switching = asyncio.create_task(self._keep_switched_on(), name="keep-notifications-on")
        try:
            await self._keep_receiving()
        finally:
            await ended(switching)

    async def _keep_receiving(self) -> None:
        while True:
            self._connection = asyncio.create_task(self._receive_until_trouble(), name="receive-notifications")
            try:
                await asyncio.wait({self._connection})
            finally:
                await ended(self._connection)
            if not self._connection.cancelled():
                self._connection.result()

    async def _receive_until_trouble(self) -> None:
        try:
            async with self._connected() as subscriptions:
                self._pause = _FIRST_PAUSE
                await self._receive(subscriptions)
        except (*AWAY, RedisError, RuntimeError) as error:
            # RuntimeError: a subscriber and the receiver, which share the connection, both found it broken and both
            # read from its successor.
            log.warning("notifications-lost", error=str(error), again_in=round(self._pause, 2))
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _start_anew(self) -> None:
        """Give the connection up: nobody knows what it is subscribed to."""
        if self._connection is not None:
            self._connection.cancel()

    async def ready(self) -> None:
        """Wait until the connection stands and everything watched is subscribed."""
        await self._ready.wait()

    async def aclose(self) -> None:
        """Close the connection."""
        await close(self._client)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Subscriptions]:
        await self._switch_on()
        subscriptions = await _open(self._client, self._url, self._prefix)
        try:
            watched: set[str] = set()
            while missed := set(self._watches) - watched:  # whoever comes meanwhile too
                await subscriptions.subscribe(*map(self._channel, missed))
                watched |= missed
            self._subscriptions = subscriptions
            await subscriptions.subscribe(self._channel(_NONE))
            yield subscriptions
        finally:
            self._ready.clear()
            self._subscriptions = None
            self._nothing_to_confirm()
            await subscriptions.aclose()

    async def _switch_on(self) -> None:
        sentence = await switch_on(self._client)
        if sentence and sentence != self._told:
            log.warning("notifications-not-switched-on", error=sentence)
        self._told = sentence or ""

    async def _receive(self, subscriptions: _Subscriptions) -> None:
        start = len(self._channels)
        while True:
            async with asyncio.timeout(_PERIOD + 2 * COMMAND_TIMEOUT):
                kind, channel = await subscriptions.receive(_PERIOD)
            if kind == "message":
                for watch in self._watches.get(channel[start:], ()):
                    watch.set()
            elif kind == "subscribe":
                self._in_force(channel[start:])

    def _in_force(self, key: str) -> None:
        """A subscription is confirmed; that of the key without events: everything watched is, after a connection."""
        if key == _NONE:
            if self._ready.is_set():
                self._reconnected.set()  # silently
            self.reconnections += 1
            self._ready.set()
            self._wake_all()
        elif (waiting := self._unconfirmed.pop(key, None)) is not None:
            waiting.set()

    async def _keep_switched_on(self) -> None:
        """Switch on again after each silent reconnection: a server that was restarted or took over has forgotten."""
        while True:
            await self._reconnected.wait()
            self._reconnected.clear()
            try:
                await self._switch_on()
            except (*AWAY, RedisError):
                await asyncio.sleep(random.uniform(0.2, 0.5))
                self._reconnected.set()
            else:
                self._wake_all()

    def _wake_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.set()

    async def _subscribe(self, keys: list[str]) -> None:
        if self._subscriptions is None or not keys:
            return
        self._unconfirmed |= {key: asyncio.Event() for key in keys}
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                await self._subscriptions.subscribe(*map(self._channel, keys))
        except (*AWAY, RedisError, RuntimeError):
            self._start_anew()

    async def _confirmed(self, keys: Iterable[str]) -> None:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                for waiting in [self._unconfirmed[key] for key in keys if key in self._unconfirmed]:
                    await waiting.wait()
        except TimeoutError:
            self._start_anew()

    def _nothing_to_confirm(self) -> None:
        for waiting in self._unconfirmed.values():
            waiting.set()
        self._unconfirmed.clear()

    async def remove(self, who: Wakeable, *keys: str) -> None:
        """Have somebody told no more."""
        gone = []
        for key in keys:
            watches = self._watches[key]
            watches.remove(who)
            if not watches:
                del self._watches[key]
                gone.append(key)
        if self._subscriptions is not None and gone:
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    await self._subscriptions.unsubscribe(*map(self._channel, gone))
            except (*AWAY, RedisError, RuntimeError):
                self._start_anew()

    def _channel(self, key: str) -> KeyspaceChannel:
        return KeyspaceChannel(self._prefix + key, db=self._database)


async def switch_on(redis: Any) -> str | None:
    """Switch the needed events on, beside those that are on already.

    Returns:
        None if they are on now; else a sentence that says what to set by hand.
    """
    remedy = f"Set notify-keyspace-events to {NEEDED_EVENTS} on the server; until then changes are seen by polling."
    everywhere = {"target_nodes": RedisCluster.PRIMARIES} if isinstance(redis, RedisCluster) else {}
    try:
        now = (await redis.config_get("notify-keyspace-events")).get("notify-keyspace-events", "")
        present = set(now.replace("A", "g$lshzxetd"))
        missing = set(NEEDED_EVENTS) - present
        if missing or everywhere:
            await redis.config_set("notify-keyspace-events", now + "".join(sorted(missing)), **everywhere)
    except AWAY:
        raise
    except RedisError as error:
        return f"Redis does not let this program switch on keyspace notifications ({error}). {remedy}"
    return None


class _Subscriptions(AsyncKeyspaceNotifications):
    """Adds the one thing missing: confirmations, also those after redis-py reconnected and resubscribed silently."""

    async def receive(self, timeout: float) -> tuple[str, str]:
        """Wait (s) for what comes next: ``message``, ``subscribe`` or the like, and its channel; empty for nothing.

        `get_message` would find out more of an event, which nobody asks for and every job would wait for.
        """
        message = await self._pubsub.parse_response(block=False, timeout=timeout)
        if message is None:
            return "", ""
        if message[0] != "message":
            await self._pubsub.handle_message(message)  # type: ignore[no-untyped-call]  # it keeps account
        return str(message[0]), str(message[1])

    async def aclose(self) -> None:
        await super().aclose()  # type: ignore[no-untyped-call]


class _ClusterSubscriptions(_Subscriptions):
    """Subscriptions at the one node of a cluster that tells of the deployment's keys: the holder of their slot."""

    def __init__(self, cluster: RedisCluster, key: str, holder: str, url: str) -> None:
        self._cluster, self._key, self._holder = cluster, key, holder
        self._at_holder = connect(at_node(url, holder))
        super().__init__(self._at_holder)

    async def receive(self, timeout: float) -> tuple[str, str]:
        kind, channel = await super().receive(timeout)
        if not kind and await slot_holder(self._cluster, self._key) != self._holder:
            raise RedisError("another node of the cluster has taken over the keys")
        return kind, channel

    async def aclose(self) -> None:
        await super().aclose()
        await close(self._at_holder)


async def _open(client: Any, url: str, key: str) -> _Subscriptions:
    if isinstance(client, RedisCluster):
        return _ClusterSubscriptions(client, key, await slot_holder(client, key), url)
    return _Subscriptions(client)
