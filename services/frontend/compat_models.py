"""The bodies of the compatible API: what its clients send and read. Numbers may come as texts, blanks as empty ones."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _as_text(value: Any) -> Any:
    """Take a number for a text, and nothing for an empty one."""
    if value is None:
        return ""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_as_text), Field(max_length=1024)]
Named = Annotated[str, Field(min_length=1, max_length=1024)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class JobForm(_Body):
    """Options of a job."""

    dimension_order: Text = Field("", alias="dimensionOrder")
    selected_channels: Text | list[int | str] = Field("", alias="selectedChannels")
    scale: Text = ""
    segmentation_type: Text = Field("", alias="segmentationType")


class PredictRequest(_Body):
    """An order for one job on an uploaded file."""

    job_type: Named = Field(alias="jobType")
    image_name: Named = Field(alias="imageName")
    uploaded_name: Text = Field("", alias="uploadedName")
    image_url: Text = Field("", alias="imageUrl")
    model_name: Text = Field("", alias="modelName")
    model_version: Text = Field("", alias="modelVersion")
    preprocess_function: Text = Field("", alias="preprocessFunction")
    postprocess_function: Text = Field("", alias="postprocessFunction")
    cuts: Text = ""
    data_label: Text = Field("", alias="dataLabel")
    data_rescale: Text = Field("", alias="dataRescale")
    job_form: JobForm = Field(default_factory=JobForm, alias="jobForm")


class StatusRequest(_Body):
    """A question for the status of a job."""

    hash: Named


class RedisRequest(_Body):
    """A question for fields of a job."""

    hash: Named
    key: Named | Annotated[list[str], Field(max_length=200)]


class ExpireRequest(_Body):
    """A wish that a job be forgotten some seconds after its end."""

    hash: Named
    expire_in: Annotated[float, Field(ge=0, le=10 * 366 * 86_400, allow_inf_nan=False)] = Field(3600, alias="expireIn")


class Message(BaseModel):
    """A sentence."""

    message: str


class UploadAnswer(BaseModel):
    """Where an uploaded file is."""

    image_url: str = Field(serialization_alias="imageURL")
    uploaded_name: str = Field(serialization_alias="uploadedName")


class HashAnswer(BaseModel):
    """The key of a job."""

    hash: str


class StatusAnswer(BaseModel):
    """The status of a job; null for an unknown one."""

    status: str | None


class ValueAnswer(BaseModel):
    """Fields of a job, in the order asked."""

    value: str | list[str | None] | None


class ExpireAnswer(BaseModel):
    """1, or 0 for an unknown job."""

    value: int


class JobTypesAnswer(BaseModel):
    """Names of the job types, the default first."""

    job_types: list[str] = Field(serialization_alias="jobTypes")


class ModelsAnswer(BaseModel):
    """Models and their versions."""

    models: dict[str, list[str]]
