"""What a second and a byte are worth: the price list applied to the machines that a deployment runs on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import Field

from shared.costs.prices import Prices, load
from shared.costs.use import Use
from shared.errors import InvalidInput, Misconfigured
from shared.settings import Group


class CostSettings(Group):
    """What each job's use is priced at; without machines it is told in seconds and bytes alone."""

    prices: str = ""
    """Price list: the date of one that comes with CellKiosk, or a CSV file; empty: KIOSK_PRICES, else 2019-06."""
    gpu_machine: str = ""
    """MACHINE,GPU that a model server runs on, such as n1-highmem-2,nvidia-tesla-t4; without GPU: MACHINE."""
    cpu_machine: str = ""
    """MACHINE that consumers run on, such as n1-standard-4."""
    cpus: int = Field(0, ge=0)
    """Processors of that machine; 0: the number at the end of its name."""
    spot: bool = False
    """Whether these are spot machines."""


@dataclass(frozen=True)
class Rates:
    """Prices of what jobs use, in the currency of the list.

    Attributes:
        prices: name of the list.
        gpu_second: of the model server's machine with its GPU, a second.
        cpu_second: of one processor of a consumer's machine, a second.
        byte: moved between storage and consumer.
        warning: a sentence where the list is old; else empty.
        currency: of the list; empty where it does not say.
    """

    prices: str
    gpu_second: float
    cpu_second: float
    byte: float
    warning: str = ""
    currency: str = ""

    def gpu(self, use: Use) -> float:
        """Return what the model server's time was worth."""
        return use.gpu_seconds * self.gpu_second

    def cpu(self, use: Use) -> float:
        """Return what the processor time was worth."""
        return use.cpu_seconds * self.cpu_second

    def network(self, use: Use) -> float:
        """Return what moving the bytes was worth."""
        return (use.bytes_in + use.bytes_out) * self.byte

    def total(self, use: Use) -> float:
        """Return what all of it was worth."""
        return self.gpu(use) + self.cpu(use) + self.network(use)


def rates(settings: CostSettings) -> Rates | None:
    """Return the rates of a deployment; None where it does not say what it runs on.

    Raises:
        Misconfigured: only one of the machines is named, or one has no price; the sentence names it.
    """
    if not settings.gpu_machine and not settings.cpu_machine:
        return None
    if not settings.gpu_machine or not settings.cpu_machine:
        raise Misconfigured("KIOSK_COST__GPU_MACHINE and KIOSK_COST__CPU_MACHINE go together: name both or neither.")
    try:
        return _rates(settings, load(settings.prices))
    except InvalidInput as error:
        raise Misconfigured(str(error)) from error


def _rates(settings: CostSettings, prices: Prices) -> Rates:
    machine, _, gpu = settings.gpu_machine.partition(",")
    return Rates(
        prices=prices.name,
        gpu_second=prices.hour(machine, gpu, spot=settings.spot) / 3600,
        cpu_second=prices.hour(settings.cpu_machine, spot=settings.spot) / 3600 / _processors(settings),
        byte=prices.of("network", "zone") / 1e9,
        warning=prices.warning(),
        currency=prices.currency,
    )


def _processors(settings: CostSettings) -> int:
    if settings.cpus:
        return settings.cpus
    named = re.search(r"-(\d+)$", settings.cpu_machine)
    if named is None:
        raise Misconfigured(
            f"The name {settings.cpu_machine!r} does not end in its number of processors; say it by KIOSK_COST__CPUS."
        )
    return int(named[1])
