"""What a job used and what that is worth: price lists, uses, rates.

The bill of a cluster and how it is divided belong to the console.
"""

from shared.costs.prices import Prices, load
from shared.costs.rates import CostSettings, Rates, rates
from shared.costs.use import NAMES as USE
from shared.costs.use import Use, total

__all__ = ["USE", "CostSettings", "Prices", "Rates", "Use", "load", "rates", "total"]
