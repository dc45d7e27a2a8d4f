"""The operations put together to BERT: composites in mirror order, `…_forward` beside `…_backward`.

Reading order: `parameters`, `forward_pass`, `embeddings`, `attention`, `feed_forward`, `block`, `heads`, `bert`.
"""
