"""Slow transcriptions of the definitions: nested lists, loops and the `math` module, no array and no matrix product.

They share no code with `mini_bert.ops` and `mini_bert.model`, so that a mistake cannot stand in both. What they gain in
that they lose in speed: they are for a handful of rows. Run on the numbers of `scalars`, they give the derivatives of
the definitions as well, without any formula for them.
"""
