"""Numbers with their uncertainty: what a score is, and how far to trust it."""
