"""Which is better? Configurations compared at an equal budget over seeds."""
