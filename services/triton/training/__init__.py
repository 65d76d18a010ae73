"""How the bundled models are made: synthetic images, the network, the training script, all reproducible.

Nothing here runs in production, and no real image is read here: real ones are for measuring alone.
"""
