"""What a bioimage.io description says of intensities, in the terms of a model card."""

from __future__ import annotations

from typing import Any

from shared.errors import InvalidInput

IGNORED = ("ensure_dtype",)
NEAR_ZERO = 1e-9


def normalisation(source: dict[str, Any], name: str) -> dict[str, Any]:
    """A card's ``normalisation`` from the input's preprocessing; raises InvalidInput for steps without a like."""
    steps = [step for step in _steps(source, "preprocessing") if _name(step) not in IGNORED]
    clips = [step for step in steps if _name(step) == "clip"]
    scaling = [step for step in steps if _name(step) != "clip"]
    if len(scaling) > 1 or len(clips) > 1 or (clips and steps[0] is clips[0]):
        raise InvalidInput(
            f"{name} prepares images in {len(steps)} steps; one, then a clip, can be served.", code="steps"
        )
    if not scaling:
        return {"window": "range", "low": 0.0, "high": 1.0, "clip": False}
    how = _of_step(scaling[0], name)
    return how | {"clip": _clips_to_unit(clips[0], name)} if clips else how


def _of_step(step: dict[str, Any], name: str) -> dict[str, Any]:
    kind, values = _name(step), step.get("kwargs") or {}
    if kind == "scale_range":
        low = float(values.get("min_percentile", 0))
        return {"window": "percentile", "low": low, "high": float(values.get("max_percentile", 100)), "clip": False}
    if kind == "zero_mean_unit_variance":
        return {"window": "mean-std", "clip": False}
    if kind == "scale_linear":
        return _linear(values, name)
    if kind == "fixed_zero_mean_unit_variance":
        mean, deviation = _number(values.get("mean"), name), _number(values.get("std"), name)
        return {"window": "range", "low": mean, "high": mean + deviation, "clip": False}
    raise InvalidInput(f"{name} prepares images by {kind!r}, which cannot be served.", code="steps")


def _linear(values: dict[str, Any], name: str) -> dict[str, Any]:
    """``value * gain + offset`` is 0 at ``-offset / gain`` and 1 at ``(1 - offset) / gain``."""
    gain, offset = _number(values.get("gain", 1), name), _number(values.get("offset", 0), name)
    if gain <= NEAR_ZERO:
        raise InvalidInput(f"{name} scales intensities by {gain:g}, which cannot be served.", code="steps")
    return {"window": "range", "low": -offset / gain, "high": (1 - offset) / gain, "clip": False}


def _number(value: Any, name: str) -> float:
    if isinstance(value, list) and len({float(each) for each in value}) == 1:
        value = value[0]
    if not isinstance(value, int | float):
        raise InvalidInput(f"{name} prepares each channel in its own way ({value}), not served.", code="steps")
    return float(value)


def _clips_to_unit(step: dict[str, Any], name: str) -> bool:
    values = step.get("kwargs") or {}
    if (values.get("min"), values.get("max")) not in ((0, 1), (0.0, 1.0)):
        raise InvalidInput(f"{name} clips intensities to {values}; 0 to 1 can be served.", code="steps")
    return True


def activation(output: dict[str, Any]) -> str:
    """A card's ``activation`` from the output's postprocessing; other steps belong to the watershed and are left."""
    names = {_name(step) for step in _steps(output, "postprocessing")}
    return next((kind for kind in ("sigmoid", "softmax") if kind in names), "none")


def _steps(tensor: dict[str, Any], field: str) -> list[dict[str, Any]]:
    return [step for step in tensor.get(field) or [] if isinstance(step, dict)]


def _name(step: dict[str, Any]) -> str:
    return str(step.get("name") or step.get("id") or "")
