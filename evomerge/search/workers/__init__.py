"""Who scores candidates: a job goes in, outcomes or a failure come out. Weights never travel, only recipes do.

Nothing is imported here: the process of a worker has to show signs of life before it has read heavy libraries.
"""
