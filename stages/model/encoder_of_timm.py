"""Encoders in the form of timm: UNI, UNI2-h, Virchow, Virchow2, H-optimus-0 and -1, Prov-GigaPath,
H0-mini.

config.json has timm's name of the architecture and what differs from it. What only the model cards
say in words (a gated MLP, how many tokens have a position) the shapes of the tensors tell. The
tensors get the names that transformers gives to DINOv2's.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from stages.base.errors import UserError
from stages.model.encoder_folder import CONFIG, WEIGHTS, EncoderFolder, Tensor, read_as
from stages.model.steps import Tokens

ARCHITECTURE = re.compile(
    r"vit_(tiny|small|base|large|huge|giant|gigantic)_patch\d+_(?:reg\d+_)?(\d+|dinov2)"
)
# The heads of attention where model_args does not say.
HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16, "giant": 16, "gigantic": 16}
GIANT_DINOV2_HEADS = 24
# Of model_args: what the tensors say as well, in other words or not at all; and what is of no
# matter for the features.
HARMLESS = {
    "mlp_ratio",
    "num_heads",
    "num_classes",
    "global_pool",
    "init_values",
    "no_embed_class",
    "dynamic_img_size",
}
POOLED: dict[str, Tokens] = {"token": "class", "": "class_and_mean"}
NEEDED = (
    "cls_token",
    "pos_embed",
    "patch_embed.proj.weight",
    "blocks.0.mlp.fc1.weight",
    "blocks.0.mlp.fc2.weight",
)


class _Config(BaseModel):
    class Pretrained(BaseModel):
        input_size: tuple[int, int, int]
        mean: tuple[float, float, float]
        std: tuple[float, float, float]
        interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]

    architecture: str
    # timm leaves an empty one out.
    global_pool: str = ""
    model_args: dict[str, Any] = {}
    pretrained_cfg: Pretrained


class _Sizes(BaseModel):
    """What the tensors say."""

    patch_size: int
    embed_dim: int
    depth: int
    reg_tokens: int
    img_size: int
    in_chans: int
    mlp: int
    gated: bool


def of_timm(path: Path, in_file: dict[str, Tensor]) -> EncoderFolder:
    """Return what a folder in the form of timm says. Raises `UserError` where it says what is not
    known here.
    """
    said = read_as(path / CONFIG, _Config)
    if not (found := ARCHITECTURE.fullmatch(said.architecture)):
        known = "timm's vit_<size>_patch<n>_..."
        raise UserError(
            f"{path / CONFIG}: architecture is {said.architecture!r}; known are {known}"
        )
    if said.global_pool not in POOLED:
        raise UserError(
            f"{path / CONFIG}: global_pool is {said.global_pool!r}; known are 'token' and ''"
        )
    sizes = _sizes(path, said, in_file)
    arguments = said.model_args
    for name, value in arguments.items():
        if name == "img_size" and isinstance(value, list) and len(set(value)) == 1:
            value = value[0]
        if name in HARMLESS or value == getattr(sizes, name, None):
            continue
        if (
            str(value)
            .lower()
            .endswith({"mlp_layer": "swiglupacked", "act_layer": "silu"}.get(name, "?"))
            and sizes.gated
        ):
            continue
        says = (
            f", but the weights say {getattr(sizes, name)}"
            if hasattr(sizes, name)
            else ", which is not known here"
        )
        raise UserError(f"{path / CONFIG}: model_args has {name} {value!r}{says}")
    default = (
        GIANT_DINOV2_HEADS if found[1] == "giant" and found[2] == "dinov2" else HEADS[found[1]]
    )
    heads = arguments.get("num_heads", default)
    if sizes.embed_dim % heads or (sizes.gated and sizes.mlp % 8):
        raise UserError(
            f"{path / CONFIG}: {sizes.embed_dim} features, {heads} heads, an MLP of {sizes.mlp}: not known here"
        )
    scaled = bool(arguments.get("init_values")) or any(".ls1." in name for name in in_file)
    renamed = dict(_renamed(in_file, sizes, scaled))
    return EncoderFolder(
        path=path,
        config={
            "model_type": "dinov2_with_registers",
            "patch_size": sizes.patch_size,
            "num_hidden_layers": sizes.depth,
            "hidden_size": sizes.embed_dim,
            "num_attention_heads": heads,
            # Of a gated MLP keras-hub takes two thirds of this, as DINOv2 does. The half keeps the
            # product from falling short.
            "mlp_ratio": ((sizes.mlp * 3 // 2 if sizes.gated else sizes.mlp) + 0.5)
            / sizes.embed_dim,
            "layerscale_value": 1.0,
            "num_register_tokens": sizes.reg_tokens,
            "use_mask_token": False,
            "use_swiglu_ffn": sizes.gated,
            "hidden_dropout_prob": 0.0,
            "drop_path_rate": 0.0,
            "image_size": sizes.img_size,
        },
        size=sizes.img_size,
        mean=said.pretrained_cfg.mean,
        std=said.pretrained_cfg.std,
        interpolation=said.pretrained_cfg.interpolation,
        tokens=POOLED[said.global_pool],
        tensors={name: tensor for name, (_, tensor) in renamed.items()},
        sources={name: list(sources) for name, (sources, _) in renamed.items()},
        in_file=set(in_file),
        unused=set(),
    )


def _sizes(path: Path, said: _Config, in_file: dict[str, Tensor]) -> _Sizes:
    if missing := [name for name in NEEDED if name not in in_file]:
        raise UserError(
            f"{path / WEIGHTS} lacks {', '.join(missing)}, which {said.architecture} has"
        )
    width, channels, patch, _ = in_file["patch_embed.proj.weight"]().shape
    into, out_of = (in_file[f"blocks.0.mlp.fc{number}.weight"]().shape for number in (1, 2))
    registers = in_file["reg_token"]().shape[1] if "reg_token" in in_file else 0
    size = said.pretrained_cfg.input_size[1]
    places, positions = (size // patch) ** 2, in_file["pos_embed"]().shape[1]
    if size % patch or positions not in (places, places + 1, places + 1 + registers):
        raise UserError(
            f"{path / CONFIG}: input_size is {size}, but the weights have {positions} positions of patches of {patch}"
        )
    if into[0] not in (out_of[1], 2 * out_of[1]):
        raise UserError(f"{path / WEIGHTS}: an MLP from {into} to {out_of} is not known here")
    return _Sizes(
        patch_size=patch,
        embed_dim=width,
        depth=1
        + max(int(name.split(".")[1]) for name in in_file if re.match(r"blocks\.\d+\.", name)),
        reg_tokens=registers,
        img_size=size,
        in_chans=channels,
        mlp=out_of[1],
        gated=into[0] == 2 * out_of[1],
    )


def _renamed(
    in_file: dict[str, Tensor], sizes: _Sizes, scaled: bool
) -> Iterator[tuple[str, tuple[list[str], Tensor]]]:
    """Yield the name in transformers of each tensor, the names in timm's file that it is made of,
    and the tensor.
    """
    places = (sizes.img_size // sizes.patch_size) ** 2
    width = sizes.embed_dim

    def positions() -> np.ndarray:
        """Those of the class token, of the registers and of the patches; zero where only patches
        have one.
        """
        found = in_file["pos_embed"]()[0]
        prefix = np.zeros((1 + sizes.reg_tokens, width), np.float32)
        prefix[: len(found) - places] = found[:-places]
        return np.concatenate([prefix, found[-places:]])[None]

    # transformers adds a position to the class token and to the patches, and none to the registers:
    # they bring their own along.
    first = 1 + sizes.reg_tokens
    yield (
        "embeddings.position_embeddings",
        (["pos_embed"], lambda: np.delete(positions(), np.s_[1:first], axis=1)),
    )
    yield "embeddings.cls_token", (["cls_token"], in_file["cls_token"])
    if sizes.reg_tokens:
        yield (
            "embeddings.register_tokens",
            (["reg_token"], lambda: in_file["reg_token"]() + positions()[:, 1:first]),
        )
    same = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
    mlp = ("weights_in", "weights_out") if sizes.gated else ("fc1", "fc2")
    for block in range(sizes.depth):
        ours, theirs = f"encoder.layer.{block}", f"blocks.{block}"
        same |= {f"{theirs}.norm{number}": f"{ours}.norm{number}" for number in (1, 2)}
        same |= {
            f"{theirs}.mlp.fc{number}": f"{ours}.mlp.{name}"
            for number, name in enumerate(mlp, start=1)
        }
        same[f"{theirs}.attn.proj"] = f"{ours}.attention.output.dense"
        for number in (1, 2):
            # An encoder without scales takes a block's output as it is.
            source = f"{theirs}.ls{number}.gamma"
            if source in in_file:
                yield f"{ours}.layer_scale{number}.lambda1", ([source], in_file[source])
            elif not scaled:
                yield (
                    f"{ours}.layer_scale{number}.lambda1",
                    ([], lambda: np.ones(width, np.float32)),
                )
        for kind in ("weight", "bias"):
            source = f"{theirs}.attn.qkv.{kind}"
            for place, name in enumerate(("query", "key", "value")):
                if source in in_file:
                    yield (
                        f"{ours}.attention.attention.{name}.{kind}",
                        ([source], _third(in_file[source], place)),
                    )
    for theirs, ours in same.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in in_file:
                yield f"{ours}.{kind}", ([f"{theirs}.{kind}"], in_file[f"{theirs}.{kind}"])


def _third(tensor: Tensor, place: int) -> Tensor:
    return lambda: np.split(tensor(), 3)[place]
