"""Read encoders in timm's form.

Such are UNI, UNI2-h, Virchow, Virchow2, H-optimus-0 and -1, Prov-GigaPath and H0-mini. config.json
names timm's architecture and the differences from it. What only the model cards say (a gated MLP,
which tokens have a position) follows from the shapes of the tensors. The tensors get the names that
transformers gives to DINOv2's.
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
# Attention heads if model_args does not say.
HEADS = {"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16, "giant": 16, "gigantic": 16}
GIANT_DINOV2_HEADS = 24
# In model_args: what the tensors say as well, or what does not affect the features.
HARMLESS = (
    "mlp_ratio num_heads num_classes global_pool init_values no_embed_class dynamic_img_size"
).split()
# In model_args of a gated MLP: how their values end, in lower case.
GATED = {"mlp_layer": "swiglupacked", "act_layer": "silu"}
POOLED: dict[str, Tokens] = {"token": "class", "": "class_and_mean"}
MLP = ("blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight")
NEEDED = ("cls_token", "pos_embed", "patch_embed.proj.weight", *MLP)


class _Config(BaseModel):
    class Pretrained(BaseModel):
        input_size: tuple[int, int, int]
        mean: tuple[float, float, float]
        std: tuple[float, float, float]
        interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]

    architecture: str
    global_pool: str = ""  # timm omits an empty one.
    model_args: dict[str, Any] = {}
    pretrained_cfg: Pretrained


class _Sizes(BaseModel):
    """What the tensors say, in the names of model_args where there are any."""

    patch_size: int
    embed_dim: int
    depth: int
    reg_tokens: int
    img_size: int
    in_chans: int
    mlp: int
    gated: bool


def of_timm(path: Path, in_file: dict[str, Tensor]) -> EncoderFolder:
    """Return the description of a folder in timm's form.

    Raises:
        UserError: something in it is missing, contradictory or unknown.
    """
    config = read_as(path / CONFIG, _Config)
    found = ARCHITECTURE.fullmatch(config.architecture)
    if not found:
        raise UserError(
            f"{path / CONFIG}: architecture is {config.architecture!r}; "
            "known are timm's vit_<size>_patch<n>_..."
        )
    if config.global_pool not in POOLED:
        raise UserError(
            f"{path / CONFIG}: global_pool is {config.global_pool!r}; known are 'token' and ''"
        )
    sizes = _sizes(path, config, in_file)
    _check_arguments(path, config.model_args, sizes)
    is_giant = found[1] == "giant" and found[2] == "dinov2"
    default = GIANT_DINOV2_HEADS if is_giant else HEADS[found[1]]
    heads = config.model_args.get("num_heads", default)
    if sizes.embed_dim % heads or (sizes.gated and sizes.mlp % 8):
        raise UserError(
            f"{path / CONFIG}: {sizes.embed_dim} features, {heads} heads, an MLP of {sizes.mlp}: "
            "not known here"
        )
    # keras-hub takes two thirds of a gated MLP's width, as DINOv2 does. The half prevents the
    # product from falling short.
    width = (sizes.mlp * 3 // 2 if sizes.gated else sizes.mlp) + 0.5
    scaled = bool(config.model_args.get("init_values")) or any(".ls1." in one for one in in_file)
    renamed = dict(_renamed(in_file, sizes, scaled))
    return EncoderFolder(
        path=path,
        config={
            "model_type": "dinov2_with_registers",
            "patch_size": sizes.patch_size,
            "num_hidden_layers": sizes.depth,
            "hidden_size": sizes.embed_dim,
            "num_attention_heads": heads,
            "mlp_ratio": width / sizes.embed_dim,
            "layerscale_value": 1.0,
            "num_register_tokens": sizes.reg_tokens,
            "use_mask_token": False,
            "use_swiglu_ffn": sizes.gated,
            "hidden_dropout_prob": 0.0,
            "drop_path_rate": 0.0,
            "image_size": sizes.img_size,
        },
        size=sizes.img_size,
        mean=config.pretrained_cfg.mean,
        std=config.pretrained_cfg.std,
        interpolation=config.pretrained_cfg.interpolation,
        tokens=POOLED[config.global_pool],
        tensors={name: tensor for name, (_, tensor) in renamed.items()},
        sources={name: sources for name, (sources, _) in renamed.items()},
        in_file=set(in_file),
        unused=set(),
    )


def _check_arguments(path: Path, arguments: dict[str, Any], sizes: _Sizes) -> None:
    for name, value in arguments.items():
        if name == "img_size" and isinstance(value, list) and len(set(value)) == 1:
            value = value[0]
        if name in HARMLESS or value == getattr(sizes, name, None):
            continue
        if sizes.gated and name in GATED and str(value).lower().endswith(GATED[name]):
            continue
        known = hasattr(sizes, name)
        says = f"but the weights say {getattr(sizes, name)}" if known else "which is not known here"
        raise UserError(f"{path / CONFIG}: model_args has {name} {value!r}, {says}")


def _sizes(path: Path, config: _Config, in_file: dict[str, Tensor]) -> _Sizes:
    if missing := [name for name in NEEDED if name not in in_file]:
        raise UserError(
            f"{path / WEIGHTS} lacks {', '.join(missing)}, which {config.architecture} has"
        )
    width, channels, patch, _ = in_file["patch_embed.proj.weight"]().shape
    into, out_of = (in_file[name]().shape for name in MLP)
    registers = in_file["reg_token"]().shape[1] if "reg_token" in in_file else 0
    size = config.pretrained_cfg.input_size[1]
    patches, positions = (size // patch) ** 2, in_file["pos_embed"]().shape[1]
    if size % patch or positions not in (patches, patches + 1, patches + 1 + registers):
        raise UserError(
            f"{path / CONFIG}: input_size is {size}, but the weights have {positions} positions of "
            f"patches of {patch}"
        )
    if into[0] not in (out_of[1], 2 * out_of[1]):
        raise UserError(f"{path / WEIGHTS}: an MLP from {into} to {out_of} is not known here")
    blocks = [int(name.split(".")[1]) for name in in_file if re.match(r"blocks\.\d+\.", name)]
    return _Sizes(
        patch_size=patch,
        embed_dim=width,
        depth=1 + max(blocks),
        reg_tokens=registers,
        img_size=size,
        in_chans=channels,
        mlp=out_of[1],
        gated=into[0] == 2 * out_of[1],
    )


def _renamed(
    in_file: dict[str, Tensor], sizes: _Sizes, scaled: bool
) -> Iterator[tuple[str, tuple[list[str], Tensor]]]:
    """Yield per tensor its name in transformers, its sources in timm's file, and the tensor."""
    patches = (sizes.img_size // sizes.patch_size) ** 2
    width = sizes.embed_dim
    first = 1 + sizes.reg_tokens

    def positions() -> np.ndarray:
        """Positions of class token, registers and patches; zero where only patches have one."""
        found = in_file["pos_embed"]()[0]
        prefix = np.zeros((first, width), np.float32)
        prefix[: len(found) - patches] = found[:-patches]
        return np.concatenate([prefix, found[-patches:]])[None]

    def without_registers() -> np.ndarray:
        return np.delete(positions(), np.s_[1:first], axis=1)

    def registers() -> np.ndarray:
        return in_file["reg_token"]() + positions()[:, 1:first]

    # transformers adds a position to the class token and the patches but not to the registers, so
    # that theirs are added here.
    yield "embeddings.position_embeddings", (["pos_embed"], without_registers)
    yield "embeddings.cls_token", (["cls_token"], in_file["cls_token"])
    if sizes.reg_tokens:
        yield "embeddings.register_tokens", (["reg_token"], registers)
    same = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
    mlp = ("weights_in", "weights_out") if sizes.gated else ("fc1", "fc2")
    for block in range(sizes.depth):
        ours, theirs = f"encoder.layer.{block}", f"blocks.{block}"
        same[f"{theirs}.attn.proj"] = f"{ours}.attention.output.dense"
        for number, layer in enumerate(mlp, start=1):
            same[f"{theirs}.norm{number}"] = f"{ours}.norm{number}"
            same[f"{theirs}.mlp.fc{number}"] = f"{ours}.mlp.{layer}"
            source, scale = f"{theirs}.ls{number}.gamma", f"{ours}.layer_scale{number}.lambda1"
            if source in in_file:
                yield scale, ([source], in_file[source])
            elif not scaled:  # A block's output counts as it is.
                yield scale, ([], lambda: np.ones(width, np.float32))
        for kind in ("weight", "bias"):
            source = f"{theirs}.attn.qkv.{kind}"
            for place, name in enumerate(("query", "key", "value")):
                if source in in_file:
                    target = f"{ours}.attention.attention.{name}.{kind}"
                    yield target, ([source], _third(in_file[source], place))
    for theirs, ours in same.items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in in_file:
                yield f"{ours}.{kind}", ([f"{theirs}.{kind}"], in_file[f"{theirs}.{kind}"])


def _third(tensor: Tensor, place: int) -> Tensor:
    return lambda: np.split(tensor(), 3)[place]
