"""Foreign files to `{name: array}` and back: containers behind a guard, manifests, name maps."""
