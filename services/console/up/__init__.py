"""``kiosk up``: the whole suite on this machine, one supervisor and a process for each part.

``plan`` says which parts there are, ``keeper`` keeps one alive, ``supervisor`` starts and stops all of them.
"""
