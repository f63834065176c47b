"""Qwen2 in PyTorch, as small as it needs to be to be trained: GQA, RMSNorm, SwiGLU, RoPE, biases on q, k and v.

Source: the Qwen2 technical report (arXiv 2407.10671), section 2.2. Names follow the GGUF's tensors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network."""

    vocabulary: int
    width: int = 128
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    ff: int = 384
    context: int = 2048
    rope_base: float = 1e6
    eps: float = 1e-6

    @property
    def head(self) -> int:
        """Elements of one head."""
        return self.width // self.heads


class Block(nn.Module):
    """Attention and feed-forward, each with its norm before it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.dropout = shape, 0.0
        self.attn_norm = nn.RMSNorm(shape.width, shape.eps)
        self.attn_q = nn.Linear(shape.width, shape.heads * shape.head)
        self.attn_k = nn.Linear(shape.width, shape.kv_heads * shape.head)
        self.attn_v = nn.Linear(shape.width, shape.kv_heads * shape.head)
        self.attn_output = nn.Linear(shape.heads * shape.head, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, shape.eps)
        self.ffn_gate = nn.Linear(shape.width, shape.ff, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.ff, bias=False)
        self.ffn_down = nn.Linear(shape.ff, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return x, (batch, tokens, width), with what this block adds."""
        x = x + self._drop(self._attend(self.attn_norm(x), cos, sin))
        y = self.ffn_norm(x)
        return x + self._drop(self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y)))

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, tokens, _width = x.shape
        q = self._heads(self.attn_q(x), self.shape.heads)
        k = self._heads(self.attn_k(x), self.shape.kv_heads)
        v = self._heads(self.attn_v(x), self.shape.kv_heads)
        shared = self.shape.heads // self.shape.kv_heads
        k = _rotated(k, cos, sin).repeat_interleave(shared, 1)
        y = F.scaled_dot_product_attention(_rotated(q, cos, sin), k, v.repeat_interleave(shared, 1), is_causal=True)
        return self.attn_output(y.transpose(1, 2).reshape(batch, tokens, -1))

    def _heads(self, x: Tensor, count: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], count, self.shape.head).transpose(1, 2)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Qwen2(nn.Module):
    """The whole network; input and output embedding are one matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.dropout = shape, 0.0
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _layer in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, shape.eps)
        for name, weight in self.named_parameters():
            if name == "token_embd.weight":
                nn.init.normal_(weight, std=0.05)
            elif name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.zeros_(weight)  # a block says nothing until it has learnt something: it learns faster so
            elif weight.dim() == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)  # the usual 0.02 is for far wider networks
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def set_dropout(self, dropout: float) -> None:
        """Change the dropout of every part."""
        for part in (self, *self.blk):
            part.dropout = dropout

    def read(self, ids: Tensor) -> Tensor:
        """Return what the network has made of ids, (batch, tokens), at each of them: (batch, tokens, width)."""
        steps = torch.arange(ids.shape[1], device=ids.device)[:, None]
        turns = self.shape.rope_base ** (-torch.arange(0, self.shape.head, 2, device=ids.device) / self.shape.head)
        angles = torch.cat([steps * turns, steps * turns], -1)
        cos, sin = angles.cos(), angles.sin()
        x = F.dropout(self.token_embd(ids), self.dropout, self.training)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, (…, vocabulary), of what `read` returned, (…, width)."""
        return F.linear(x, self.token_embd.weight)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of a head's first and second half by its position's angle (RoPE, arXiv 2104.09864)."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
