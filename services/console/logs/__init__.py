"""``kiosk logs``: the services' log lines, from the files of ``kiosk up`` or from a cluster's pods, in columns."""
