"""Where images and results are: one small protocol, on a folder (``file://``) or a bucket (``gs://``).

Objects are written whole or not at all and never change afterwards; what they mean is not known here.
"""

from shared.storage.protocol import Chunks, Source, Stat, Storage, Stored, read_all
from shared.storage.urls import open_storage

__all__ = ["Chunks", "Source", "Stat", "Storage", "Stored", "open_storage", "read_all"]
