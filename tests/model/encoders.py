"""Tiny encoders in the layout of each family, with features by timm and transformers themselves.

    python -m tests.model.encoders     writes tests/model/encoders.json

The program needs torch, timm, transformers and torchvision. Each encoder has a width of 32 and two
blocks. Its weights are drawn from the names of its tensors, so that encoders.json only holds their
names and shapes, the folder's configuration, and the features of the squares that `square` draws.
"""

import json
import tempfile
import zlib
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_suffix(".json")
SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 1e-5, "num_classes": 0}
GATED = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
# timm: architecture, reduced model_args of its config.json, what only the model card says,
# global_pool, colors.
TIMM = {
    "uni": ("vit_large_patch16_224", {"img_size": 48, "dynamic_img_size": True}, {}, "token", {}),
    "uni2-h": (
        "vit_giant_patch14_224",
        {
            "img_size": 42,
            "mlp_ratio": 5.5,
            "no_embed_class": True,
            "reg_tokens": 8,
            "dynamic_img_size": True,
        },
        GATED,
        "token",
        {},
    ),
    "virchow": (
        "vit_huge_patch14_224",
        {"img_size": 42, "mlp_ratio": 5.5, "global_pool": "", "dynamic_img_size": True},
        GATED,
        "",
        {"interpolation": "bicubic"},
    ),
    "virchow2": (
        "vit_huge_patch14_224",
        {
            "img_size": 42,
            "mlp_ratio": 5.5,
            "reg_tokens": 4,
            "global_pool": "",
            "dynamic_img_size": True,
        },
        GATED,
        "",
        {"interpolation": "bicubic"},
    ),
    "h-optimus-0": (
        "vit_giant_patch14_reg4_dinov2",
        {"img_size": 42, "mlp_ratio": 5.5, "global_pool": "token"},
        {},
        "token",
        {
            "interpolation": "bicubic",
            "mean": (0.707223, 0.578729, 0.703617),
            "std": (0.211883, 0.230117, 0.177517),
        },
    ),
    "prov-gigapath": (
        "vit_giant_patch14_dinov2",
        {"img_size": 48, "patch_size": 16, "mlp_ratio": 5.5},
        {},
        "token",
        {"interpolation": "bicubic"},
    ),
    "h0-mini": (
        "vit_base_patch14_reg4_dinov2",
        {"img_size": 42, "mlp_ratio": 5.5, "global_pool": ""},
        GATED,
        "",
        {},
    ),
    "without-layer-scale": (
        "vit_small_patch16_224",
        {"img_size": 48, "init_values": None},
        {},
        "token",
        {},
    ),
}
NORMALIZED = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
HIBOU = {"image_mean": [0.7068, 0.5755, 0.722], "image_std": [0.195, 0.2316, 0.1816]}
# transformers: the model's class, its reduced configuration, the tokens that are the features,
# colors.
TRANSFORMERS = {
    "phikon": (
        "ViT",
        {"image_size": 48, "patch_size": 16, "intermediate_size": 128},
        "class",
        {"resample": 2},
    ),
    "phikon-v2": ("Dinov2", {"image_size": 48, "patch_size": 16}, "class", {"resample": 3}),
    "hibou": (
        "Dinov2WithRegisters",
        {"image_size": 42, "patch_size": 14, "num_register_tokens": 4},
        "class",
        {"resample": 3, **HIBOU},
    ),
    "midnight": (
        "Dinov2",
        {"image_size": 42, "patch_size": 14, "use_swiglu_ffn": True},
        "class_and_mean",
        {"resample": 3, **NORMALIZED},
    ),
}


def values(name: str, shape: list[int]) -> np.ndarray:
    """Return a tensor's weights, float32, drawn from its name: about 1 for scales, else about 0."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    drawn = random.uniform(-1, 1, shape)
    if name.endswith(("gamma", "lambda1")) or ("norm" in name and name.endswith("weight")):
        return (1 + 0.5 * drawn).astype(np.float32)
    return (0.3 * drawn).astype(np.float32)


def square(size: int) -> np.ndarray:
    """Return a smooth picture with all colors, uint8 (size, size, 3)."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * y - 2 * x), np.sin(9 * x * y + 1)]
    return np.rint(127.5 + 127 * np.stack(waves, axis=-1)).astype(np.uint8)


def write_folder(stored: dict, folder: Path) -> Path:
    """Write an encoder's folder as it was when its features were computed."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(stored["config"]))
    if stored["preprocessor"]:
        (folder / "preprocessor_config.json").write_text(json.dumps(stored["preprocessor"]))
    save_file(
        {name: values(name, shape) for name, shape in stored["tensors"].items()},
        folder / "model.safetensors",
    )
    return folder


def _of_timm(name: str) -> dict:
    import timm
    import torch
    from PIL import Image

    architecture, arguments, in_words, pool, colors = TIMM[name]
    arguments = {**SMALL, **arguments}
    given = {"SwiGLUPacked": timm.layers.SwiGLUPacked, "SiLU": torch.nn.SiLU}
    more = {key: given[value] for key, value in in_words.items()}
    size = arguments["img_size"]
    made = {"input_size": (3, size, size), "crop_pct": 1.0, **colors}
    model = timm.create_model(
        architecture, **{"global_pool": pool, **arguments, **more}, pretrained_cfg_overlay=made
    ).eval()
    state = {
        key: torch.from_numpy(values(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state, strict=True)
    with tempfile.TemporaryDirectory() as place:
        timm.models.save_for_hf(
            model, place, model_args=arguments | in_words, safe_serialization=True
        )
        config = json.loads((Path(place) / "config.json").read_text())
    # The published files have neither; users of timm have to know them.
    config["model_args"] = {
        key: value for key, value in config["model_args"].items() if key not in GATED
    }
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(model.pretrained_cfg, model=model)
    )

    def features(pixels: np.ndarray) -> list[float]:
        with torch.inference_mode():
            found = model(transform(Image.fromarray(pixels))[None])
        if pool == "":
            found = torch.cat([found[:, 0], found[:, model.num_prefix_tokens :].mean(1)], dim=-1)
        return found[0].tolist()

    shapes = {key: list(value.shape) for key, value in state.items()}
    return {
        "config": config,
        "preprocessor": None,
        "tensors": shapes,
        "size": size,
        **_both(features, size),
    }


def _of_transformers(name: str) -> dict:
    import torch
    import transformers
    from PIL import Image
    from safetensors import safe_open
    from safetensors.numpy import save_file

    kind, settings, tokens, colors = TRANSFORMERS[name]
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, **settings}
    config = getattr(transformers, f"{kind}Config")(**settings)
    made = getattr(transformers, f"{kind}Model")
    size = settings["image_size"]
    side = {"height": size, "width": size}
    # With Pillow, like the published encoders.
    processor = transformers.ViTImageProcessorPil(size=side, **colors)
    with tempfile.TemporaryDirectory() as place:
        made(config).save_pretrained(place)
        processor.save_pretrained(place)
        # The names in the file differ from those in memory.
        with safe_open(Path(place) / "model.safetensors", "np") as file:
            shapes = {key: list(file.get_slice(key).get_shape()) for key in sorted(file.keys())}
        save_file(
            {key: values(key, shape) for key, shape in shapes.items()},
            Path(place) / "model.safetensors",
            {"format": "pt"},
        )
        model, report = made.from_pretrained(place, output_loading_info=True)
        assert not any(report.values()), report
        model.eval()
        config = json.loads((Path(place) / "config.json").read_text())
        preprocessor = json.loads((Path(place) / "preprocessor_config.json").read_text())

    def features(pixels: np.ndarray) -> list[float]:
        with torch.inference_mode():
            found = model(
                **processor(images=Image.fromarray(pixels), return_tensors="pt")
            ).last_hidden_state
        parts = [found[:, 0]]
        if tokens == "class_and_mean":
            parts.append(found[:, 1 + settings.get("num_register_tokens", 0) :].mean(1))
        return torch.cat(parts, dim=-1)[0].tolist()

    return {
        "config": config,
        "preprocessor": preprocessor,
        "tensors": shapes,
        "size": size,
        **_both(features, size),
    }


def _both(features, size: int) -> dict:
    return {
        "features": features(square(size)),
        "of_a_larger_square": features(square(2 * size + 6)),
    }


def main() -> None:
    found = {name: _of_timm(name) for name in TIMM} | {
        name: _of_transformers(name) for name in TRANSFORMERS
    }
    STORED.write_text(
        json.dumps(found, indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n"
    )


if __name__ == "__main__":
    main()
