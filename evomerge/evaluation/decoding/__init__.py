"""Running a transformers model over many prompts at once: a shared prefix, preallocated keys and values, rows that
leave."""
