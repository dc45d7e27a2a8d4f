"""How good is it? Scores of a model and of simple baselines on the same held-out tokens."""
