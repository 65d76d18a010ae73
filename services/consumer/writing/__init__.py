"""Files of results out: label TIFFs, tables, zips, previews, views.

Where they are stored, and what they are called, is for the pipelines.
"""

from services.consumer.writing.labels import write_labels
from services.consumer.writing.preview import write_preview
from services.consumer.writing.view import ViewWriter
from services.consumer.writing.zips import write_zip

__all__ = ["ViewWriter", "write_labels", "write_preview", "write_zip"]
