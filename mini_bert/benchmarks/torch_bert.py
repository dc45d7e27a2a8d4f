"""The opponent: BERT for masked language modelling as a PyTorch expert would write it for this job.

Same architecture, same weights, same loss as ours, and everything that PyTorch's own operators offer: one matrix
product for Q, K and V, `scaled_dot_product_attention`, decoding of the masked rows only, and, where `last_block_rows`
asks for it, the last-block saving of our own model too. Weights carry Hugging Face's names, so that all three
contestants can be given the same ones.

torch is imported when `build` is called, not before.
"""

from __future__ import annotations

from typing import Any


def build(shape: Any, *, attention: str = "sdpa", last_block_rows: bool = False) -> Any:
    """A `torch.nn.Module` whose call `(input_ids, masked_positions, target_ids)` returns the mean loss.

    Args:
        shape: an object with the fields of `ModelConfig`.
        attention: `sdpa`, or `plain` for the two matrix products and the softmax written out.
        last_block_rows: compute the last block's output projection, feed-forward and LayerNorms at the masked rows
            only; queries and attention, a small part of the work, stay whole, as their product is one with K and V.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    width, heads, pieces = shape.hidden_size, shape.num_attention_heads, shape.vocab_size
    eps = shape.layer_norm_eps

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
            self.norm_attention = nn.LayerNorm(width, eps)
            self.up = nn.Linear(width, shape.intermediate_size)
            self.down = nn.Linear(shape.intermediate_size, width)
            self.norm_output = nn.LayerNorm(width, eps)

        def split(self, x: Any) -> Any:
            return x.unflatten(-1, (heads, width // heads)).transpose(1, 2)

        def attend(self, q: Any, k: Any, v: Any) -> Any:
            if attention == "sdpa":
                context = F.scaled_dot_product_attention(q, k, v)
            else:
                scores = (q @ k.transpose(-1, -2)) * (width // heads) ** -0.5
                context = scores.softmax(-1) @ v
            return context.transpose(1, 2).flatten(2)

        def feed_forward(self, x: Any, context: Any) -> Any:
            x = self.norm_attention(x + self.out(context))
            return self.norm_output(x + self.down(F.gelu(self.up(x))))

        def forward(self, x: Any) -> Any:
            q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, -1))
            return self.feed_forward(x, self.attend(q, k, v))

        def forward_rows(self, x: Any, rows: Any) -> Any:
            """The block's output at the given rows of the flattened batch; all that the loss reads."""
            q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, -1))
            context = self.attend(q, k, v).flatten(0, 1)[rows]
            return self.feed_forward(x.flatten(0, 1)[rows], context)

    class MaskedLM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(pieces, width)
            self.positions = nn.Embedding(shape.max_position_embeddings, width)
            self.segments = nn.Embedding(shape.type_vocab_size, width)
            self.norm = nn.LayerNorm(width, eps)
            self.blocks = nn.ModuleList([Block() for _ in range(shape.num_hidden_layers)])
            self.transform = nn.Linear(width, width)
            self.norm_transform = nn.LayerNorm(width, eps)
            self.decoder_bias = nn.Parameter(torch.zeros(pieces))
            for name, parameter in self.named_parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=shape.initializer_range)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

        def encode(self, input_ids: Any, rows: Any) -> Any:
            x = self.tokens(input_ids) + self.positions.weight[: input_ids.shape[1]] + self.segments.weight[0]
            x = self.norm(x)
            for block in self.blocks[:-1]:
                x = block(x)
            if last_block_rows:
                return self.blocks[-1].forward_rows(x, rows)
            return self.blocks[-1](x).flatten(0, 1)[rows]

        def logits(self, input_ids: Any, rows: Any) -> Any:
            """Logits `[M, V]` at the given rows of the flattened batch."""
            hidden = self.norm_transform(F.gelu(self.transform(self.encode(input_ids, rows))))
            return F.linear(hidden, self.tokens.weight, self.decoder_bias)

        def forward(self, input_ids: Any, rows: Any, target_ids: Any) -> Any:
            return F.cross_entropy(self.logits(input_ids, rows), target_ids)

    return MaskedLM()


def load_hugging_face(module: Any, arrays: Any) -> Any:
    """Fill a module of `build` from `BertForMaskedLM`'s state dict (names to tensors); returns the module."""
    import torch

    def into(target: str, *sources: str) -> None:
        parts = [torch.as_tensor(arrays[source]) for source in sources]
        state[target].copy_(torch.cat(parts) if len(parts) > 1 else parts[0])
        filled.add(target)

    state, filled = dict(module.named_parameters()), set()
    with torch.no_grad():
        for target, source in _OUTSIDE.items():
            into(target, source)
        for number in range(len(module.blocks)):
            for target, sources in _BLOCK.items():
                for kind in ("weight", "bias"):
                    names = [f"bert.encoder.layer.{number}.{source}.{kind}" for source in sources]
                    into(f"blocks.{number}.{target}.{kind}", *names)
    assert filled == set(state), sorted(set(state) - filled)
    return module


_OUTSIDE = {
    "tokens.weight": "bert.embeddings.word_embeddings.weight",
    "positions.weight": "bert.embeddings.position_embeddings.weight",
    "segments.weight": "bert.embeddings.token_type_embeddings.weight",
    "norm.weight": "bert.embeddings.LayerNorm.weight",
    "norm.bias": "bert.embeddings.LayerNorm.bias",
    "transform.weight": "cls.predictions.transform.dense.weight",
    "transform.bias": "cls.predictions.transform.dense.bias",
    "norm_transform.weight": "cls.predictions.transform.LayerNorm.weight",
    "norm_transform.bias": "cls.predictions.transform.LayerNorm.bias",
    "decoder_bias": "cls.predictions.bias",
}

_BLOCK = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "out": ("attention.output.dense",),
    "norm_attention": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "norm_output": ("output.LayerNorm",),
}
