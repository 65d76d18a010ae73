"""Load a network's weights for :func:`shared.dense.predict`."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.dense.predict import Net
from shared.errors import Misconfigured


def load_net(folder: Path, threads: int = 0) -> Net:
    """The network in the version folder ``folder``: ``model.onnx``, ``model.pt`` (TorchScript) or ``net.py``.

    ``net.py`` is Python of the model's own with a function ``load(folder, threads)`` that gives a network.

    ``threads`` bounds the cores used by one call; 0 leaves it to the runtime. A GPU is used where there is one.
    Raises Misconfigured if there is no such file or it cannot be loaded.
    """
    for name, loader in (("model.onnx", _onnx), ("model.pt", _torchscript), ("net.py", _python)):
        path = folder / name
        if path.is_file():
            try:
                return loader(path, threads)
            except ImportError as error:
                raise Misconfigured(f"{path} needs a library that is not installed: {error}.") from error
            except Exception as error:  # each runtime has its own errors for a broken file
                raise Misconfigured(f"{path} cannot be loaded: {error}") from error
    raise Misconfigured(f"{folder} holds no model.onnx, model.pt or net.py.")


def _onnx(path: Path, threads: int) -> Net:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    available = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(str(path), options, [p for p in wanted if p in available])
    source = session.get_inputs()[0].name

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {source: batch})[0], np.float32)

    return run


def _torchscript(path: Path, threads: int) -> Net:
    import torch

    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = torch.jit.load(str(path), map_location=device).eval()

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(batch).to(device)).cpu().numpy(), np.float32)

    return run


def _python(path: Path, threads: int) -> Net:
    load = runpy.run_path(str(path))["load"]
    net: Net = load(path.parent, threads)
    return net
