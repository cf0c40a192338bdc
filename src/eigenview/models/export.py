"""A run's encoder for other libraries: plain timm or torchvision weights, ONNX, a hub folder.

Our own format is saved and loaded in `saved.py`; its functions can be imported from here too.

Every export is a folder with the weights and a README.md, whose lines of Python load them without eigenview.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch

from eigenview import runfiles
from eigenview.data.pixels.ranges import kept_range
from eigenview.errors import UserError, require
from eigenview.models import libraries
from eigenview.models.encoders import resolve
from eigenview.models.libraries import Library
from eigenview.models.saved import LoadedEncoder, load_encoder, save_encoder, state_tensors

__all__ = ["FORMATS", "LoadedEncoder", "export", "load_encoder", "save_encoder"]

Format = Literal["timm", "torchvision", "onnx", "hf"]
FORMATS: tuple[Format, ...] = ("timm", "torchvision", "onnx", "hf")
LARGEST_ONNX = 2**31
WEIGHTS, README = "model.safetensors", "README.md"


def export(run: Path | str, format: Format, out: Path) -> Path:
    """Write the encoder of `run` (anything `load_encoder` reads from disk) into the new folder `out`; returns `out`.

    **Formats** - timm, torchvision: model.safetensors with the library's own parameter names, for an encoder of that
    library. hf: the folder timm loads as local-dir:FOLDER or, uploaded, as hf-hub:OWNER/NAME; timm encoders with their
    published stem. onnx: model.onnx for any encoder and any batch size; needs the packages onnx and onnxscript.

    **Raises** - UserError if the format does not fit the encoder, a package is missing, or `out` holds files already.
    """
    require(format in FORMATS, "--format", format, ", ".join(FORMATS))
    encoder = load_encoder(run)
    if format == "onnx":
        files = _onnx_files(encoder)
    elif format == "hf":
        files = _hub_files(encoder, _library_model(encoder, "timm", format))
    else:
        files = _library_files(encoder, format, _library_model(encoder, format, format))
    _write_folder(out, files)
    return out


def write_for_timm(run: Path) -> Path | None:
    """Write RUN/backbone, which timm loads as local-dir:RUN/backbone, from the encoder that a run has saved.

    The weights are a second link to encoder.safetensors, whose names are timm's. Returns None, and writes nothing, for
    an encoder of another library, or one that timm's configuration cannot describe.
    """
    encoder = load_encoder(run)
    library, model = resolve(encoder.name)
    if library != "timm" or _why_not_hub(encoder, model) is not None:
        return None
    out = run / runfiles.BACKBONE
    for name, content in _hub_texts(encoder, model).items():
        runfiles.write_bytes(out / name, content)
    runfiles.write_link(run / runfiles.ENCODER, out / WEIGHTS)
    return out


def _library_model(encoder: LoadedEncoder, needed: Library, format: Format) -> str:
    """The encoder's name within the library that the format needs."""
    library, model = resolve(encoder.name)
    if library != needed:
        theirs = f"--format {library}" if library else "eigenview.load_encoder (or --format onnx)"
        raise UserError(f"--format {format}: this encoder is {encoder.name}, not one of {needed}'s; use {theirs}.")
    return model


def _has_small_stem(encoder: LoadedEncoder, library: Library, model: str) -> bool:
    stem = encoder.card["stem"]
    return libraries.has_small_stem(library, model, encoder.size, stem)


def _weights(encoder: LoadedEncoder) -> bytes:
    return safetensors.torch.save(state_tensors(encoder.network), metadata={"format": "pt"})


def _library_files(encoder: LoadedEncoder, library: Library, model: str) -> dict[str, bytes]:
    """Weights under the library's parameter names, and the code that loads them into the library's class."""
    given = libraries.arguments(library, model, encoder.size, encoder.reading.channels)
    factory = {"timm": "timm.create_model", "torchvision": "torchvision.models.get_model"}[library]
    call = ", ".join([f'"{model}"', *(f"{name}={value}" for name, value in given.items())])
    code = [
        f"import {library}",
        "from safetensors.torch import load_file",
        "from torch import nn",
        "",
        f"model = {factory}({call})",
        *libraries.replacement_code(
            library, model, encoder.network, small_stem=_has_small_stem(encoder, library, model)
        ),
        f'model.load_state_dict(load_file("{WEIGHTS}"))',
        "model.eval()",
    ]
    if "nn." not in "".join(code[4:]):
        code.remove("from torch import nn")
    return {WEIGHTS: _weights(encoder), README: _readme(encoder, code)}


def _hub_files(encoder: LoadedEncoder, model: str) -> dict[str, bytes]:
    """timm's hub layout: the weights and config.json, which has architecture and preprocessing."""
    problem = _why_not_hub(encoder, model)
    if problem is not None:
        raise UserError(f"--format hf: {encoder.name} was trained {problem}")
    return {WEIGHTS: _weights(encoder)} | _hub_texts(encoder, model)


def _why_not_hub(encoder: LoadedEncoder, model: str) -> str | None:
    """How an encoder was trained that timm's configuration cannot describe, and what to do; None if it can."""
    if _has_small_stem(encoder, "timm", model):
        return (
            f"at {encoder.size} px with the small stem, which timm's configuration cannot describe. Use --format timm, "
            "or train with --network.stem standard."
        )
    if encoder.card.get("norm", "batch") != "batch":
        return f"with {encoder.card['norm']} norms, which timm's configuration cannot describe. Use --format timm."
    return None


def _hub_texts(encoder: LoadedEncoder, model: str) -> dict[str, bytes]:
    """Everything of timm's hub layout but the weights."""
    from timm.models import get_pretrained_cfg

    given = libraries.arguments("timm", model, encoder.size, encoder.reading.channels)
    published = get_pretrained_cfg(model)
    # names of the layers that timm exchanges for another number of classes or channels
    layers = {} if published is None else {"first_conv": published.first_conv, "classifier": published.classifier}
    config: dict[str, Any] = {
        "architecture": model.split(".")[0],
        "num_classes": 0,
        "num_features": encoder.width,
        "model_args": {name: value for name, value in given.items() if name != "num_classes"},
        "pretrained_cfg": {
            "input_size": [encoder.reading.channels, encoder.size, encoder.size],
            "fixed_input_size": "img_size" in given,
            "mean": list(encoder.mean),
            "std": list(encoder.std),
            "interpolation": encoder.interpolation,
            "crop_pct": 1.0,
            "num_classes": 0,
            "custom_load": False,
            **layers,
        },
    }
    code = ["import timm", "", 'model = timm.create_model("local-dir:.", pretrained=True)', "model.eval()"]
    readme = b"---\nlibrary_name: timm\n---\n" + _readme(encoder, code)
    return {"config.json": (json.dumps(config, indent=2) + "\n").encode(), README: readme}


def _onnx_files(encoder: LoadedEncoder) -> dict[str, bytes]:
    """One ONNX graph, images (n C size size) to h (n H), for any n."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs the package {' and '.join(missing)}: pip install 'eigenview[onnx]', "
            "or choose another --format."
        )
    size = sum(value.numel() * value.element_size() for value in encoder.network.state_dict().values())
    if size >= LARGEST_ONNX:
        raise UserError(
            f"--format onnx: {encoder.name} has {size / 1e9:.2g} GB of weights, and a file of ONNX holds at most "
            f"{LARGEST_ONNX / 1e9:.2g}. Use --format timm or torchvision."
        )
    example = torch.zeros(2, encoder.reading.channels, encoder.size, encoder.size)
    try:
        program = torch.onnx.export(
            encoder.network,
            (example,),
            input_names=["images"],
            output_names=["h"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--format onnx: PyTorch cannot convert {encoder.name} ({reason}).") from error
    assert program is not None  # it is None only for a scripted network
    graph = program.model_proto.SerializeToString()
    code = [
        "import numpy as np",
        "import onnxruntime",
        "",
        'session = onnxruntime.InferenceSession("model.onnx")',
        f"images = np.zeros((1, {encoder.reading.channels}, {encoder.size}, {encoder.size}), np.float32)",
        '(h,) = session.run(["h"], {"images": images})',
    ]
    return {"model.onnx": graph, README: _readme(encoder, code)}


def _input(encoder: LoadedEncoder) -> str:
    """What the channels hold, and which values of the files become 0 and 1, for the README."""
    reading = encoder.reading
    what = {1: "grey", 3: "RGB"}.get(reading.channels, f"{reading.channels} channels")
    return f"{what} (values of the files: {kept_range(reading)})," if reading.low else what


def _readme(encoder: LoadedEncoder, code: list[str]) -> bytes:
    """README.md: how to load the encoder, its input and output, and the run it comes from."""
    origin = ", ".join(f"{name} {value}" for name, value in encoder.card.get("run", {}).items())
    method = encoder.card.get("method")
    lines = [
        f"# {encoder.name}" + (f", pretrained with {method}" if method else ""),
        "",
        "Load it, in this folder:",
        "",
        "```python",
        *code,
        "```",
        "",
        f"Input: float32 (n, {encoder.reading.channels}, {encoder.size}, {encoder.size}), {_input(encoder)} between 0 "
        f"and 1, minus mean {list(encoder.mean)}, "
        f"divided by std {list(encoder.std)}; resized {encoder.interpolation}.",
        f"Output: features (n, {encoder.width}).",
        "",
        f"Written by eigenview {encoder.card.get('eigenview', '')}".rstrip() + (f" ({origin})." if origin else "."),
        "",
    ]
    return "\n".join(lines).encode("utf-8", "backslashreplace")  # of a path whose bytes are no UTF-8


def _write_folder(out: Path, files: dict[str, bytes]) -> None:
    """Write all files; if one cannot be written, remove the folder again and raise."""
    runfiles.create_run_dir(out)
    try:
        for name, content in files.items():
            runfiles.write_bytes(out / name, content)
    except UserError:
        for name in files:
            (out / name).unlink(missing_ok=True)
        out.rmdir()
        raise
