"""``kiosk cluster``: a GKE cluster for CellKiosk, made step by step, removed in order, and its leftovers found."""
