"""``kiosk doctor``: looks at everything the suite leans on; each finding comes with its remedy."""
