"""Image files in: decoding in bounded helper processes, and the safe walk of archives.

Arrays are worked on in imaging, files of results are made in writing; jobs are for the pipelines.
"""

from services.consumer.reading.archives import Member, Skipped, extract_member, list_members
from services.consumer.reading.decoded import Decoded
from services.consumer.reading.decoder import Decoder
from services.consumer.reading.limits import ReadLimits

__all__ = [
    "Decoded",
    "Decoder",
    "Member",
    "ReadLimits",
    "Skipped",
    "extract_member",
    "list_members",
]
