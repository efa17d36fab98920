"""MVDream's UNet by its own definition, small: modules named as in the original code (ldm), joint attention as einops writes it there."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS, HEADS = 8, 4


class Res(nn.Module):
    """ResBlock of openaimodel.py."""

    def __init__(self, reads: int, writes: int, width: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, reads), nn.SiLU(), nn.Conv2d(reads, writes, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, writes))
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, writes), nn.SiLU(), nn.Dropout(0), nn.Conv2d(writes, writes, 3, padding=1))
        self.skip_connection = nn.Identity() if reads == writes else nn.Conv2d(reads, writes, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.skip_connection(x) + self.out_layers(self.in_layers(x) + self.emb_layers(emb)[..., None, None])


class Attention(nn.Module):
    """CrossAttention of attention.py."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(w, width, bias=False) for w in (width, context, context))
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (f(y).unflatten(2, (HEADS, -1)) for f, y in ((self.to_q, x), (self.to_k, context), (self.to_v, context)))
        weights = torch.einsum("blhc,bmhc->bhlm", q, k).mul(q.shape[-1] ** -0.5).softmax(-1)
        return self.to_out(torch.einsum("bhlm,bmhc->blhc", weights, v).flatten(2))


class Gate(nn.Module):
    """GEGLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, -1)
        return x * F.gelu(gate)


class Block(nn.Module):
    """BasicTransformerBlock3D: attn1 over all views of a set, the rest view by view."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(width, width), Attention(width, context)
        self.ff = nn.ModuleDict({"net": nn.Sequential(Gate(width), nn.Dropout(0), nn.Linear(4 * width, width))})
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor, views: int) -> Tensor:
        together = x.reshape(len(x) // views, views * x.shape[1], -1)  # (b f) l c -> b (f l) c
        seen = self.norm1(together)
        x = (together + self.attn1(seen, seen)).reshape(x.shape)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff["net"](self.norm3(x))


class Transformer(nn.Module):
    """SpatialTransformer3D, with convolutions as projections as in 1.5."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([Block(width, context)])

    def forward(self, x: Tensor, context: Tensor, views: int) -> Tensor:
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        tokens = self.transformer_blocks[0](tokens, context, views)
        return x + self.proj_out(tokens.transpose(1, 2).reshape(x.shape))


class Down(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)


class Up(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)


class OriginalUNet(nn.Module):
    """MultiViewUNetModel: two levels of one ResBlock, attention at the second; channels `width` and twice that."""

    def __init__(self, channels: int = 4, width: int = 16, context: int = 32) -> None:
        super().__init__()
        emb, wide = 4 * width, 2 * width
        self.width = width
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.camera_embed = nn.Sequential(nn.Linear(16, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.input_blocks = nn.ModuleList([
            nn.ModuleList([nn.Conv2d(channels, width, 3, padding=1)]),
            nn.ModuleList([Res(width, width, emb)]),
            nn.ModuleList([Down(width)]),
            nn.ModuleList([Res(width, wide, emb), Transformer(wide, context)]),
        ])
        self.middle_block = nn.ModuleList([Res(wide, wide, emb), Transformer(wide, context), Res(wide, wide, emb)])
        self.output_blocks = nn.ModuleList([
            nn.ModuleList([Res(wide + wide, wide, emb), Transformer(wide, context)]),
            nn.ModuleList([Res(wide + width, wide, emb), Transformer(wide, context), Up(wide)]),
            nn.ModuleList([Res(wide + width, width, emb)]),
            nn.ModuleList([Res(width + width, width, emb)]),
        ])
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, camera: Tensor, views: int) -> Tensor:
        half = self.width // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=x.dtype) / half)
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1)) + self.camera_embed(camera)

        def through(layers: nn.Module, x: Tensor) -> Tensor:
            for layer in layers.children():
                match layer:
                    case Res():
                        x = layer(x, emb)
                    case Transformer():
                        x = layer(x, context, views)
                    case Down():
                        x = layer.op(x)
                    case Up():
                        x = layer.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
                    case _:
                        x = layer(x)
            return x

        skips = []
        for block in self.input_blocks:
            skips.append(x := through(block, x))
        x = through(self.middle_block, x)
        for block in self.output_blocks:
            x = through(block, torch.cat([x, skips.pop()], 1))
        return self.out(x)
