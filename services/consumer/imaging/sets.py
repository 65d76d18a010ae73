"""Disjoint sets as a list of parents (union-find), for joining basins and labels."""

from __future__ import annotations


def find(parent: list[int], item: int) -> int:
    """Return the root of an item's set, halving the path on the way.

    Source: Tarjan, van Leeuwen, "Worst-case analysis of set union algorithms", J. ACM 31 (1984), pp. 245-281.
    """
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item
