"""Foreign files to `{name: array}` and back: containers, name maps, writing that is whole or not there at all."""
