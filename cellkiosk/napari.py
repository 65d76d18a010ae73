"""A widget for napari: an image layer goes to a server, its cells come back as a labels layer.

napari finds it by ``napari.yaml`` beside this file, under Plugins > CellKiosk, wherever both are installed
(``pip install cellkiosk numpy tifffile napari``). napari draws the form from the arguments of `segment`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellkiosk.sync import Client

if TYPE_CHECKING:
    import napari.layers
    import napari.qt.threading
    import napari.types

#: Pixels, what napari is to know of the layer, and its kind: napari's LayerDataTuple.
Layer = tuple[Any, dict[str, Any], str]


def segment(
    image: napari.layers.Image, address: str = "http://127.0.0.1:8080", analysis: str = "segmentation", key: str = ""
) -> napari.qt.threading.FunctionWorker[napari.types.LayerDataTuple]:
    """Analyse a layer in the background; the labels become a layer of their own when they are there."""
    from napari.qt.threading import thread_worker

    return thread_worker(labels_layer, start_thread=True)(image, address, analysis, key)


def labels_layer(image: Any, address: str, analysis: str, key: str = "") -> Layer:
    """Return the labels of an image layer as a layer.

    Args:
        image: with ``data`` (an array that the server can read), ``name`` and ``scale``, as napari's layers have.
        address: of the server.
        analysis: the job type.
        key: API key; empty for none.

    Raises:
        KioskError: the server is away or refuses, or the job failed; its sentence says why.
    """
    import numpy as np

    with Client(address, key or None) as kiosk:
        labels = kiosk.submit(np.asarray(image.data), analysis, name=f"{image.name}.npy").wait().labels()
    squeezed = np.squeeze(labels)
    scale = tuple(image.scale)[-squeezed.ndim :]
    return squeezed, {"name": f"{image.name} {analysis}", "scale": scale}, "labels"
