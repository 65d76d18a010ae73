"""Connections to Redis, from one URL: standalone, TLS, Sentinel or Cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry as Retries
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.errors import Misconfigured
from shared.jobs.client import Client, Sending, Sentinels

#: A command that gets no answer in this time (s) counts as failed; scripts take milliseconds.
COMMAND_TIMEOUT = 5.0
#: Time (s) to reach the server: a dead host must not hold a caller for long.
CONNECT_TIMEOUT = 2.0

#: What redis-py raises when the server is away, as opposed to refusing a command.
#: The cluster client has an exception of its own where it reaches no node at all.
AWAY = (RedisConnectionError, RedisTimeoutError, RedisClusterException, ConnectionError, TimeoutError, OSError)

_FORMS = (
    "redis://host:6379/0, rediss://…, redis+sentinel://host:26379,host:26379/service/0 or redis+cluster://host:6379"
)


def connect(url: str, *, timeout: float | None = COMMAND_TIMEOUT) -> Redis:
    """Return a client for a URL; nothing is sent yet.

    Args:
        url: one of the forms named in the error below.
        timeout: seconds to wait for an answer; None waits for ever, for subscriptions.

    Raises:
        Misconfigured: the URL has none of the forms. The password in it is never shown.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "surrogateescape",
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retries(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2),
    }
    if parts.scheme in {"redis", "rediss", "unix"}:
        return _sending_well(Client.from_url(url, **options))
    if parts.scheme == "redis+sentinel":
        return _by_sentinel(url, options)
    if parts.scheme == "redis+cluster":
        options.pop("retry")
        return _by_cluster(RedisCluster.from_url(url.replace("redis+cluster", "redis", 1), **options))
    raise Misconfigured(f"The Redis URL starts with {parts.scheme!r}; allowed are {_FORMS}.")


async def close(client: Any) -> None:
    """Close a client's connections, those to the sentinels that it asks too, which redis-py leaves open."""
    await client.aclose()
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for sentinel in getattr(manager, "sentinels", ()):
        await sentinel.aclose()


async def slot_holder(cluster: RedisCluster, key: str) -> str:
    """Return the node of a cluster that holds a key just now, as ``host:port``."""
    await cluster.exists(key)  # follows the key to where it is, and so learns of a change
    node: Any = cluster.get_node_from_key(key)
    return f"{node.host}:{node.port}"


def at_node(url: str, address: str) -> str:
    """Return the URL of one node of the cluster that a URL names."""
    credentials, at, _ = urlsplit(url).netloc.rpartition("@")
    return f"redis://{credentials}{at}{address}"


def database(url: str) -> int:
    """Return the number of the database that a URL names; 0 where it names none."""
    parts = urlsplit(url)
    last = parts.path.rpartition("/")[2]
    named = parse_qs(parts.query).get("db", [last])[0]
    return int(named) if named.isdigit() else 0


def hide_password(url: str) -> str:
    """Return the URL as it may be shown and logged."""
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    if not at:
        return url
    return url.replace(f"{user}@", f"{user.partition(':')[0]}:***@", 1)


def _by_sentinel(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service = parts.path.strip("/").partition("/")[0]
    if not hosts or not service:
        raise Misconfigured(f"The Redis Sentinel URL names no host or no service; its form is one of {_FORMS}.")
    user, _, password = credentials.partition(":")
    if password:
        options |= {"password": unquote(password), "username": unquote(user) or None}
    addresses = [(host, int(port or 26379)) for host, _, port in (name.partition(":") for name in hosts.split(","))]
    patience = {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": CONNECT_TIMEOUT}
    sentinel: Any = Sentinels(addresses, sentinel_kwargs=patience)
    return _sending_well(sentinel.master_for(service, Client, db=database(url), **options))


def _by_cluster(cluster: Any) -> Redis:
    nodes = cluster.nodes_manager
    sending = _sending(nodes.connection_kwargs["connection_class"])
    nodes.connection_kwargs["connection_class"] = sending  # of nodes that it will learn of
    for node in nodes.startup_nodes.values():
        node.connection_class = sending
    return cluster  # type: ignore[no-any-return]  # speaks the same commands


def _sending_well(client: Redis) -> Redis:
    pool = client.connection_pool
    pool.connection_class = _sending(pool.connection_class)
    return client


def _sending(connection_class: type) -> Any:
    return type("Connection", (Sending, connection_class), {})


__all__ = [
    "AWAY",
    "COMMAND_TIMEOUT",
    "CONNECT_TIMEOUT",
    "RedisError",
    "at_node",
    "close",
    "connect",
    "database",
    "hide_password",
    "slot_holder",
]
