"""The external-push scaler, asked over real gRPC as KEDA asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from services.autoscaler.loop import Loop
from services.autoscaler.scalers import external_scaler as protocol
from services.autoscaler.scalers.keda import KedaScaler
from services.autoscaler.settings import KedaSettings, PaceSettings
from services.autoscaler.targets import Target
from shared.errors import Retry
from shared.jobs import JobStore, NewJob, Notifications
from shared.jobs.model import new_id
from tests.fixtures.kubernetes import eventually

TARGET = Target(
    name="work", queues={"work": 1.0}, jobs_per_replica=1, max_replicas=5, cooldown=0.2, stabilisation_window=0.2
)


class Keda:
    """The client that KEDA is."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    async def ask(self, method: str, request: Any, answer: Any) -> Any:
        call = self.channel.unary_unary(
            f"/{protocol.SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return await call(request, timeout=10)

    def stream(self, request: Any) -> Any:
        call = self.channel.unary_stream(
            f"/{protocol.SERVICE}/StreamIsActive",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=protocol.IsActiveResponse.FromString,
        )
        return call(request, timeout=30)

    async def wanted(self) -> int:
        request = protocol.GetMetricsRequest(scaledObjectRef=reference(), metricName="wanted-replicas")
        answer = await self.ask("GetMetrics", request, protocol.GetMetricsResponse)
        (value,) = answer.metricValues
        assert value.metricValueFloat == value.metricValue
        return int(value.metricValue)


def reference(target: str = "work") -> Any:
    return protocol.ScaledObjectRef(name="some-scaled-object", namespace="here", scalerMetadata={"target": target})


@pytest.fixture
async def scaler() -> KedaScaler:
    return KedaScaler(KedaSettings(host="127.0.0.1", port=0), [TARGET])


@pytest.fixture
async def keda(scaler: KedaScaler) -> AsyncIterator[Keda]:
    listening = asyncio.Event()
    serving = asyncio.create_task(scaler.run(listening.set))
    await listening.wait()
    client = Keda(scaler.port)
    yield client
    await client.channel.close()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


@pytest.fixture
async def loop(keda: Keda, scaler: KedaScaler, store: JobStore, notifications: Notifications) -> AsyncIterator[Loop]:
    async def nothing(_changed: Any) -> None:
        await asyncio.Event().wait()

    scaler.run = nothing  # type: ignore[method-assign]  # it is served already
    made = Loop(store, notifications, scaler, [TARGET], pace=PaceSettings(busy_share=0.5), reconcile=0.3)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_before_anything_is_decided_the_answer_is_an_error_not_zero(scaler: KedaScaler, keda: Keda) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await keda.wanted()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(Retry, match="Nothing was decided"):
        await scaler.check()


async def test_work_is_pushed_at_once_and_the_metric_is_the_wanted_number(
    keda: Keda, loop: Loop, store: JobStore, scaler: KedaScaler
) -> None:
    stream = keda.stream(reference())
    assert (await stream.read()).result is False
    spec = await keda.ask("GetMetricSpec", reference(), protocol.GetMetricSpecResponse)
    assert [(s.metricName, s.targetSize) for s in spec.metricSpecs] == [("wanted-replicas", 1)]
    await store.submit(*(NewJob(new_id("work")) for _ in range(3)))
    assert (await stream.read()).result is True
    await eventually(lambda: _is(keda, 3))
    assert (await keda.ask("IsActive", reference(), protocol.IsActiveResponse)).result is True
    claimed = await store.claim("w", ["work"], 3, 60.0)
    await store.complete("w", *((job.held, {}) for job in claimed.jobs))
    assert (await stream.read()).result is False
    assert await keda.wanted() == 0
    await scaler.check()
    stream.cancel()


async def test_an_unknown_target_is_named(keda: Keda) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="no target 'other'; there are: work"):
        await keda.ask("IsActive", reference("other"), protocol.IsActiveResponse)


async def _is(keda: Keda, number: int) -> bool:
    return await keda.wanted() == number
