"""evomerge: find the best way to merge fine-tuned language models.

The rooms of the house, from the ground up: `checkpoints` reads models, `recipes` says how to merge them, `merging`
does it, `evaluation` scores the result, `optimizers` propose, `search` runs the loop, `reporting` says what was found.
"""

__version__ = "0.1.0"
