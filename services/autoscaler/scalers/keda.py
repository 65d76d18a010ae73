"""For clusters where KEDA must own scaling: its external-push scaler, over gRPC.

KEDA turns 0 into 1 at once when this pushes that there is work. Above 1 the metric is the wanted number of replicas
with target 1, so that the HPA follows at its own pace. Which pod goes is not in our hands then: workers drain on
SIGTERM, and nothing is lost; but a busy one may be chosen, which our own Kubernetes scaler never does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc  # type: ignore[import-untyped]
import structlog

from services.autoscaler.decide import Decision, Fleet
from services.autoscaler.scalers import external_scaler as protocol
from services.autoscaler.settings import KedaSettings
from services.autoscaler.targets import Target
from shared.errors import Misconfigured, Retry

log = structlog.get_logger(__name__)

METRIC = "wanted-replicas"


class KedaScaler:
    """Answers KEDA's questions with the numbers last decided."""

    def __init__(self, settings: KedaSettings, targets: Sequence[Target]) -> None:
        """Prepare; `run` listens."""
        self._settings = settings
        self._targets = {target.name for target in targets}
        self._numbers: dict[str, int] = {}
        self._decided: set[str] = set()
        self._changed = asyncio.Condition()
        self.port = 0

    async def run(self, changed: Callable[[], None]) -> None:
        """Serve until cancelled."""
        server = grpc.aio.server()
        handlers = {
            "IsActive": _unary(self._is_active, protocol.ScaledObjectRef),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(
                self._stream_is_active,
                request_deserializer=protocol.ScaledObjectRef.FromString,
                response_serializer=_bytes,
            ),
            "GetMetricSpec": _unary(self._metric_spec, protocol.ScaledObjectRef),
            "GetMetrics": _unary(self._metrics, protocol.GetMetricsRequest),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(protocol.SERVICE, handlers),))
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise Misconfigured(f"The address {address} (KIOSK_KEDA__HOST, _PORT) cannot be listened at.") from error
        await server.start()
        log.info("keda-listening", port=self.port)
        changed()
        try:
            await asyncio.Event().wait()
        finally:
            await server.stop(1.0)

    async def acting(self) -> bool:
        """Return True: every replica may answer; all decide the same from the same store."""
        return True

    async def observe(self, target: Target) -> Fleet:
        """Return the number last told; who the replicas are is KEDA's and the HPA's affair."""
        return Fleet(self._numbers.get(target.name, 0))

    async def busy(self, _target: Target, _fleet: Fleet) -> frozenset[str]:
        """Return nobody: who goes is not chosen here."""
        return frozenset()

    async def scale(self, target: Target, replicas: int, _going: Sequence[str]) -> None:
        """Tell the new number to whoever listens."""
        await self._tell(target.name, replicas)

    async def keep(self, _target: Target, _names: Sequence[str]) -> None:
        """Do nothing."""

    async def explain(self, target: Target, decision: Decision) -> None:
        """Take the first decision as the word that numbers may be told from now on."""
        if decision.replicas is not None:
            await self._tell(target.name, decision.replicas)

    async def check(self) -> None:
        """Raise Retry until something was decided: before that, KEDA is told nothing."""
        if missing := self._targets - self._decided:
            raise Retry(f"Nothing was decided yet of {', '.join(sorted(missing))}.")

    async def aclose(self, _grace: float) -> None:
        """Do nothing: the server ends with `run`."""

    async def _tell(self, name: str, replicas: int) -> None:
        async with self._changed:
            self._numbers[name] = replicas
            self._decided.add(name)
            self._changed.notify_all()

    # -- what KEDA asks

    async def _is_active(self, reference: Any, context: Any) -> Any:
        return protocol.IsActiveResponse(result=await self._number(reference, context) > 0)

    async def _stream_is_active(self, reference: Any, context: Any) -> AsyncIterator[Any]:
        """Push whether there is work: now, and whenever that changes."""
        name = await self._name(reference, context)
        told: bool | None = None
        while True:
            async with self._changed:
                while name not in self._decided or (self._numbers[name] > 0) is told:
                    await self._changed.wait()
                told = self._numbers[name] > 0
            yield protocol.IsActiveResponse(result=told)

    async def _metric_spec(self, reference: Any, context: Any) -> Any:
        await self._name(reference, context)
        spec = {"metricName": METRIC, "targetSize": 1, "targetSizeFloat": 1.0}
        return protocol.GetMetricSpecResponse(metricSpecs=[spec])

    async def _metrics(self, request: Any, context: Any) -> Any:
        number = await self._number(request.scaledObjectRef, context)
        value = {"metricName": METRIC, "metricValue": number, "metricValueFloat": float(number)}
        return protocol.GetMetricsResponse(metricValues=[value])

    async def _number(self, reference: Any, context: Any) -> int:
        name = await self._name(reference, context)
        if name not in self._decided:
            # An error makes the HPA hold; a zero would make it remove everything.
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"Nothing was decided yet of {name!r}.")
        return self._numbers[name]

    async def _name(self, reference: Any, context: Any) -> str:
        """Return the target of a ScaledObject: what its trigger's metadata calls ``target``, else its own name."""
        name = str(reference.scalerMetadata.get("target") or reference.name)
        if name not in self._targets:
            known = ", ".join(sorted(self._targets))
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no target {name!r}; there are: {known}.")
        return name


def _unary(call: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=request.FromString, response_serializer=_bytes
    )


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())
