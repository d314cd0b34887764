"""The Llama architecture in plain torch, with Hugging Face's weight names."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

QUERY_CHUNK = 256  # queries per attention step: bounds the score matrix and skips most of the masked half


@dataclasses.dataclass(frozen=True)
class Config:
    """The shape; field names are those of a Hugging Face config.json."""

    vocab_size: int = 2048
    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 32
    max_position_embeddings: int = 4096
    rope_theta: float = 50000.0
    rms_norm_eps: float = 1e-5


class RmsNorm(nn.Module):
    """Scales a vector to unit root mean square, in fp32, then by a learned weight."""

    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rope_tables(config, length):
    """Returns cos and sin, each (length, head_dim), for the rotate-half convention."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float64), config.rope_theta ** -exponent)
    angles = torch.cat((angles, angles), -1).float()
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Applies rotary position embedding to (batch, heads, length, head_dim)."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


class Attention(nn.Module):
    """Causal grouped-query attention."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        wide, narrow = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = nn.Linear(config.hidden_size, wide, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, narrow, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, narrow, bias=False)
        self.o_proj = nn.Linear(wide, config.hidden_size, bias=False)

    def forward(self, x, cos, sin, mask):
        batch, length, _ = x.shape
        split = lambda y: y.view(batch, length, -1, self.config.head_dim).transpose(1, 2)
        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        cos, sin = cos.to(q.dtype), sin.to(q.dtype)
        q = rotate(q, cos, sin) * self.config.head_dim ** -0.5
        group = self.config.num_attention_heads // self.config.num_key_value_heads
        k = rotate(k, cos, sin).repeat_interleave(group, 1)
        v = v.repeat_interleave(group, 1)
        chunks = []
        for begin in range(0, length, QUERY_CHUNK):
            end = min(begin + QUERY_CHUNK, length)
            scores = q[:, :, begin:end] @ k[:, :, :end].transpose(2, 3)
            scores = scores + mask[begin:end, :end].to(scores.dtype)
            chunks.append(torch.softmax(scores, -1) @ v[:, :, :end])
        return self.o_proj(torch.cat(chunks, 2).transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Mlp(config)

    def forward(self, x, *rope_and_mask):
        x = x + self.self_attn(self.input_layernorm(x), *rope_and_mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Token ids (batch, length) to logits (batch, length, vocabulary); the output matrix is the embedding."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self._tables = {}
        self._init_weights()

    def _init_weights(self):
        residual = (2 * self.config.num_hidden_layers) ** -0.5
        for name, p in self.named_parameters():
            if p.dim() == 2:
                scale = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(p, std=0.02 * scale)

    def _rope_and_mask(self, length):
        if length not in self._tables:
            mask = torch.full((length, length), -1e9).triu(1)
            self._tables[length] = (*rope_tables(self.config, length), mask)
        return self._tables[length]

    def forward(self, ids):
        x = self.embed_tokens(ids)
        shared = self._rope_and_mask(ids.shape[1])
        for layer in self.layers:
            x = layer(x, *shared)
        return F.linear(self.norm(x), self.embed_tokens.weight)
