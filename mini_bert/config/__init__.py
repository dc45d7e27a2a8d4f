"""One schema for everything that can be set, and the packaged presets that fill it."""
