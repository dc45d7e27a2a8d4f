"""Token ids → batches: where texts come from, how they become rows of ids, and which of them are hidden.

Reading order: `sources` and `readers` (files → documents), `tokens` and `shards` (documents → token files on disk),
`packing` (token files → rows), `order` (which row comes when), `masking`, and `batches`, which joins them.
"""
