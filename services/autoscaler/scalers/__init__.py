"""What makes replicas: one file each for the Kubernetes API, processes on this machine, and KEDA.

A scaler sees and acts; it decides nothing. A new one is a file here with the methods of `Scaler`.
"""

from services.autoscaler.scalers.factory import open_scaler
from services.autoscaler.scalers.protocol import Scaler

__all__ = ["Scaler", "open_scaler"]
