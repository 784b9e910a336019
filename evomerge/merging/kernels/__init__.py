"""Compiled loops: the weighted sum that most methods are, for the CPU and for the GPU, with the same bits."""
