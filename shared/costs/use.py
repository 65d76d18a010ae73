"""What a job used, as its hash tells it: written once by its worker, with what ends the job."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Use:
    """What one job used, or many together.

    Attributes:
        gpu_seconds: its share of the time in which the model server was busy: requests in flight together share it.
        cpu_seconds: processor time of its other work.
        bytes_in: read from storage.
        bytes_out: written to storage.
    """

    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0

    @classmethod
    def of(cls, told: Mapping[str, object]) -> Use | None:
        """Read what a job's hash tells; None where it tells nothing, as before a job's end."""
        values = [told.get(name) for name in NAMES]
        try:
            numbers = [float(str(value or 0)) for value in values]
        except ValueError:
            return None
        if not all(map(math.isfinite, numbers)):
            return None
        return cls(*numbers) if any(value is not None for value in values) else None

    def facts(self) -> dict[str, str]:
        """Return what is written into the job's hash."""
        return {
            "gpu_seconds": f"{self.gpu_seconds:.6f}",
            "cpu_seconds": f"{self.cpu_seconds:.6f}",
            "bytes_in": f"{self.bytes_in:.0f}",
            "bytes_out": f"{self.bytes_out:.0f}",
        }


#: The facts of a job's hash, and the numbers of `Use` in their order.
NAMES = tuple(field.name for field in fields(Use))


def total(uses: Iterable[Use | None]) -> Use:
    """Add up uses; None counts as nothing."""
    rows = [[getattr(use, name) for name in NAMES] for use in uses if use is not None]
    return Use(*(sum(column) for column in zip(*rows, strict=True)))
