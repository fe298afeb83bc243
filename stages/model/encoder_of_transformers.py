"""Read encoders in transformers' form.

Such are Phikon (vit), and Phikon-v2, Hibou-B, Hibou-L and Midnight-12k (dinov2).
preprocessor_config.json holds their size, normalization and interpolation.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from stages.base.errors import UserError
from stages.model.encoder_folder import CONFIG, PREPROCESSOR, EncoderFolder, Tensor, read_as

KINDS = ("vit", "dinov2", "dinov2_with_registers")
PREFIXES = ("vit.", "dinov2_with_registers.", "dinov2.")
# As PIL.Image.Resampling numbers them.
INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
EXPECTED = {"hidden_act": "gelu", "qkv_bias": True, "num_channels": 3}
NEEDED = ("hidden_size", "num_attention_heads", "num_hidden_layers", "image_size", "patch_size")
NEEDED_BY_VIT = ("intermediate_size", "layer_norm_eps")
NEEDED_BY_DINOV2 = ("mlp_ratio", "layerscale_value", "use_swiglu_ffn")
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")


class _Preprocessor(BaseModel):
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    size: dict[str, int] | int
    crop_size: dict[str, int] | int | None = None
    resample: int = Field(ge=0, le=3)
    do_rescale: Literal[True] = True
    do_normalize: Literal[True] = True
    rescale_factor: float = Field(1 / 255, gt=0.0039, lt=0.0040)

    @property
    def side(self) -> int | None:
        size = self.size if self.crop_size is None else self.crop_size
        return size if isinstance(size, int) else size.get("height", size.get("shortest_edge"))


def of_transformers(
    path: Path, config: dict[str, Any], in_file: dict[str, Tensor]
) -> EncoderFolder:
    """Return the description of a folder in transformers' form.

    Raises:
        UserError: something in it is missing or unknown.
    """
    vit = config["model_type"] == "vit"
    needed = (*NEEDED, *(NEEDED_BY_VIT if vit else NEEDED_BY_DINOV2))
    if missing := [name for name in needed if name not in config]:
        raise UserError(f"{path / CONFIG} lacks {', '.join(missing)}")
    for name in NEEDED:
        if not (isinstance(config[name], int) and config[name] > 0):
            raise UserError(
                f"{path / CONFIG}: {name} is {config[name]!r}; it must be a whole number from 1 on"
            )
    # keras-hub's converter ignores these; with other values the features would be wrong.
    for name, value in (EXPECTED if vit else EXPECTED | {"layer_norm_eps": 1e-6}).items():
        if config.get(name, value) != value:
            raise UserError(f"{path / CONFIG}: {name} is {config[name]!r}; known is {value!r}")
    made = read_as(path / PREPROCESSOR, _Preprocessor)
    if made.side != config["image_size"]:
        raise UserError(
            f"{path / CONFIG}: image_size is {config['image_size']}, but {PREPROCESSOR} has a side "
            f"of {made.side}; it must be the same, as patch positions are not interpolated here"
        )
    prefixes = (one for one in PREFIXES if any(name.startswith(one) for name in in_file))
    prefix = next(prefixes, "")
    names = {("vit." if vit else "") + name.removeprefix(prefix): name for name in in_file}
    # What follows the tokens; and the mask of training, which the converter of vit does not take.
    unused = {name for name in in_file if name.removeprefix(prefix) in POOLER}
    if vit and "vit.embeddings.mask_token" in names:
        unused.add(names["vit.embeddings.mask_token"])
    # Midnight is the encoder of this width with a gated MLP, like DINOv2's own largest: both use
    # two kinds of tokens.
    two = config["hidden_size"] == 1536 and bool(config.get("use_swiglu_ffn"))
    changes = {"qkv_bias": True, "use_mask_token": "embeddings.mask_token" in names}
    return EncoderFolder(
        path=path,
        config=config | dict.fromkeys(DROPOUTS, 0.0) | changes,
        size=config["image_size"],
        mean=made.image_mean,
        std=made.image_std,
        interpolation=INTERPOLATIONS[made.resample],
        tokens="class_and_mean" if two else "class",
        tensors={known: in_file[name] for known, name in names.items()},
        sources={known: [name] for known, name in names.items()},
        in_file=set(in_file),
        unused=unused,
    )
