"""Which replica is asked next."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.consumer.inference.replicas import LONGEST_REST, Address, Replica, Replicas
from shared.errors import Retry


class Names:
    """A name server under the test's control."""

    def __init__(self) -> None:
        self.found: list[Address] = [("127.0.0.1", port) for port in (1, 2, 3)]
        self.away = False

    async def __call__(self, _host: str, _port: int) -> list[Address]:
        if self.away:
            raise OSError("no name server")
        return self.found


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
async def replicas(names: Names) -> AsyncIterator[Replicas]:
    made = Replicas([("triton", 8001)], names)
    await made.refresh()
    yield made
    await made.aclose()


def ports(replicas: Replicas) -> list[int]:
    return sorted(each.address[1] for each in replicas)


async def test_the_one_with_the_fewest_calls_is_next(replicas: Replicas) -> None:
    for count, replica in enumerate(sorted(replicas, key=lambda r: r.address)):
        replica.outstanding = 2 - count
    assert (await replicas.pick(0.0)).address[1] == 3
    assert replicas.outstanding == 3


async def test_equals_take_turns(replicas: Replicas) -> None:
    chosen = {(await replicas.pick(0.0)).address[1] for _ in range(60)}
    assert chosen == {1, 2, 3}


async def test_one_that_did_not_answer_rests_longer_each_time_and_is_forgiven_at_once(replicas: Replicas) -> None:
    silent = next(iter(replicas))
    rests = []
    for _ in range(8):
        silent.silent(now=100.0)
        rests.append(next(t for t in (step / 100 for step in range(1000)) if not silent.rests(100.0 + t)))
    assert rests == sorted(rests)
    assert rests[0] < 0.5
    assert rests[-1] == pytest.approx(LONGEST_REST, abs=0.02)
    assert silent not in [await replicas.pick(100.0) for _ in range(20)]
    silent.answered(0.1)
    assert not silent.rests(100.0)


async def test_if_all_rest_one_is_asked_all_the_same(replicas: Replicas) -> None:
    for replica in replicas:
        replica.silent(now=0.0)
    assert isinstance(await replicas.pick(0.0), Replica)


async def test_addresses_that_stay_keep_their_channel(replicas: Replicas, names: Names) -> None:
    before = {each.address: each for each in replicas}
    names.found = [("127.0.0.1", port) for port in (2, 3, 4)]
    await replicas.refresh()
    after = {each.address: each for each in replicas}
    assert ports(replicas) == [2, 3, 4]
    assert all(after[address] is before[address] for address in after.keys() & before.keys())


async def test_one_that_is_gone_finishes_its_calls_first(replicas: Replicas, names: Names) -> None:
    leaving = min(replicas, key=lambda r: r.address)
    with leaving.busy():
        names.found = [("127.0.0.1", 2)]
        await replicas.refresh()
        assert ports(replicas) == [2]
        assert replicas.outstanding == 1
    assert replicas.outstanding == 0
    await replicas.refresh()


async def test_what_is_known_is_kept_while_the_name_server_is_away(replicas: Replicas, names: Names) -> None:
    names.away, names.found = True, []
    replicas._endpoints = [("triton", 1)]
    await replicas.refresh()
    assert ports(replicas) == [1]


async def test_no_address_is_a_retry_that_names_the_server(names: Names) -> None:
    names.found = []
    made = Replicas([("triton", 8001)], names)
    try:
        with pytest.raises(Retry, match="The model server triton:8001 has no address at present"):
            await made.pick(0.0)
    finally:
        await made.aclose()
