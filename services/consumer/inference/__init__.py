"""Where predictions come from: one small protocol, a Triton server over gRPC or ONNX Runtime in this process.

Blocks go in and maps come out; what becomes of them is the business of ``imaging`` and the pipelines.
"""

from services.consumer.inference.factory import open_model_server
from services.consumer.inference.protocol import ModelServer

__all__ = ["ModelServer", "open_model_server"]
