"""The model server: its repository of models, its own environment, its launcher, the training of our models.

Image formats, jobs and post-processing do not belong here: the consumer has them.
"""
