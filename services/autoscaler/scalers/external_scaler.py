"""The messages of KEDA's external scaler protocol (package ``externalscaler``), made without generated code.

Field names and numbers are those of the protocol: https://keda.sh/docs/latest/concepts/external-scalers/
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

SERVICE = "externalscaler.ExternalScaler"
_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "double": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
}
#: Message to its fields: (name, number, type); a type in brackets is repeated, a capital letter begins a message.
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "ScalerMetadataEntry": [("key", 1, "string"), ("value", 2, "string")],
    "ScaledObjectRef": [
        ("name", 1, "string"),
        ("namespace", 2, "string"),
        ("scalerMetadata", 3, "[ScalerMetadataEntry]"),
    ],
    "IsActiveResponse": [("result", 1, "bool")],
    "MetricSpec": [("metricName", 1, "string"), ("targetSize", 2, "int64"), ("targetSizeFloat", 3, "double")],
    "GetMetricSpecResponse": [("metricSpecs", 1, "[MetricSpec]")],
    "GetMetricsRequest": [("scaledObjectRef", 1, "ScaledObjectRef"), ("metricName", 2, "string")],
    "MetricValue": [("metricName", 1, "string"), ("metricValue", 2, "int64"), ("metricValueFloat", 3, "double")],
    "GetMetricsResponse": [("metricValues", 1, "[MetricValue]")],
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="cellkiosk/externalscaler.proto", package="externalscaler", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        if name == "ScalerMetadataEntry":
            continue  # a map's entry belongs into the message that has the map
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field)
    reference = next(message for message in file.message_type if message.name == "ScaledObjectRef")
    entry = reference.nested_type.add(name="ScalerMetadataEntry")
    entry.options.map_entry = True
    for field in _MESSAGES["ScalerMetadataEntry"]:
        _add_field(entry, *field)
    return file


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    repeated, kind = kind.startswith("["), kind.strip("[]")
    wire = descriptor_pb2.FieldDescriptorProto
    field.label = wire.LABEL_REPEATED if repeated else wire.LABEL_OPTIONAL
    if kind in _TYPES:
        field.type = _TYPES[kind]
        return
    field.type = wire.TYPE_MESSAGE
    inside = "ScaledObjectRef." if kind == "ScalerMetadataEntry" else ""
    field.type_name = f".externalscaler.{inside}{kind}"


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def message(name: str) -> Any:
    """Return the class of a message of the protocol."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"externalscaler.{name}"))


ScaledObjectRef = message("ScaledObjectRef")
IsActiveResponse = message("IsActiveResponse")
GetMetricSpecResponse = message("GetMetricSpecResponse")
GetMetricsRequest = message("GetMetricsRequest")
GetMetricsResponse = message("GetMetricsResponse")
