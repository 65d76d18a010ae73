"""``kiosk benchmark``: many jobs through the public API, timed, priced and written down; ``report`` draws them."""
