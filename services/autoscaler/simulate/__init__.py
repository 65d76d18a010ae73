"""`kiosk simulate`: the real decision code against a model of arrivals, nodes, cold starts, preemption and prices.

Pure but for reading files and drawing plots; needs numpy, and scipy and matplotlib for the optimum and the plots.
"""

from services.autoscaler.simulate.command import main

__all__ = ["main"]
