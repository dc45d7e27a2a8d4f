"""Who reaches a held-out loss first? Whole trainings beside transformers', on the same text, batches and masks."""
