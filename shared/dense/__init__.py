"""Dense prediction on one block of an image: card, normalisation, tiling, blending, quantising. Pure array code.

Both the model server and the consumer's in-process server run it (numpy 1.26 and 2), so nothing here talks to a
network, and what turns maps into labels belongs to the consumer.
"""

from shared.dense.card import ModelCard, Normalisation, ObjectMaps, PostProcessing, parse_card, read_card
from shared.dense.predict import Net, Predictor, Request, check, predict

__all__ = [
    "ModelCard",
    "Net",
    "Normalisation",
    "ObjectMaps",
    "PostProcessing",
    "Predictor",
    "Request",
    "check",
    "parse_card",
    "predict",
    "read_card",
]
