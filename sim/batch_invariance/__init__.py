"""Does training depend on the batch size? Batch-size invariant Adam beside Adam, step by step and over whole runs."""
