"""The mathematics: one file an operation, `forward` and `backward` side by side.

Every file reads top to bottom: numbered equations (derived in `docs/derivations/`), `Saved` (what the backward pass
needs and why it is kept), `forward`, `backward`, and last `cost` and `CASES`. Operations are pure functions for
float32, float64 and complex128 (complex-safe: the complex step differentiates them), with any leading axes.
"""
