"""Exports load into plain timm and torchvision, by the very lines their README.md gives, with the same features."""

import importlib.util
import re
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file

from eigenview import runfiles
from eigenview.errors import UserError
from eigenview.models.export import export, load_encoder
from tests.models.test_saved import MEAN, STD, saved


def run_readme(folder: Path, monkeypatch) -> dict:
    """Execute the Python of README.md as a reader would, in its folder."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    assert "eigenview" not in code
    names: dict = {}
    monkeypatch.chdir(folder)
    exec(code, names)
    return names


def same_features(model: torch.nn.Module, run: Path) -> bool:
    encoder = load_encoder(run)
    images = torch.randn(2, 3, encoder.size, encoder.size)
    with torch.no_grad():
        return torch.equal(model.eval()(images), encoder(images))


@pytest.mark.parametrize(
    ("name", "size", "stem"),
    [
        ("timm:test_resnet", 32, "auto"),
        ("timm:test_vit", 32, "auto"),
        ("timm:mobilenetv3_small_050", 32, "auto"),
        ("torchvision:resnet18", 32, "auto"),
        pytest.param("torchvision:vit_b_32", 32, "auto", marks=pytest.mark.slow),  # 350 MB written and read twice
        pytest.param("torchvision:convnext_tiny", 32, "auto", marks=pytest.mark.slow),
        ("torchvision:squeezenet1_1", 64, "auto"),
    ],
)
def test_the_readme_loads_the_export(tmp_path, monkeypatch, name, size, stem):
    saved(tmp_path / "run", name, size=size, stem=stem)
    library = "timm" if name.startswith("timm") else "torchvision"
    out = export(tmp_path / "run", library, tmp_path / "out")
    assert same_features(run_readme(out, monkeypatch)["model"], tmp_path / "run")
    readme = (out / "README.md").read_text()
    assert "pretrained with vicreg" in readme
    assert str(MEAN) in readme


def test_plain_timm_loads_its_own_keys(tmp_path):
    saved(tmp_path / "run", "timm:mobilenetv3_small_050", size=32)
    out = export(tmp_path / "run", "timm", tmp_path / "out")
    model = timm.create_model("mobilenetv3_small_050", num_classes=0)
    model.load_state_dict(load_file(out / "model.safetensors"))
    assert same_features(model, tmp_path / "run")


def test_plain_torchvision_loads_its_own_keys(tmp_path):
    saved(tmp_path / "run", "torchvision:resnet18", size=32, stem="standard")
    out = export(tmp_path / "run", "torchvision", tmp_path / "out")
    model = torchvision.models.resnet18()
    result = model.load_state_dict(load_file(out / "model.safetensors"), strict=False)
    assert result.missing_keys == ["fc.weight", "fc.bias"]
    assert result.unexpected_keys == []
    model.fc = torch.nn.Identity()
    assert same_features(model, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("timm:mobilenetv3_small_050", "auto"), ("timm:test_vit", "auto"), ("timm:test_resnet", "standard")],
)
def test_timm_reads_the_hub_folder(tmp_path, monkeypatch, name, stem):
    saved(tmp_path / "run", name, size=32, stem=stem)
    out = export(tmp_path / "run", "hf", tmp_path / "out")
    model = timm.create_model(f"local-dir:{out}", pretrained=True)
    assert same_features(model, tmp_path / "run")
    assert same_features(run_readme(out, monkeypatch)["model"], tmp_path / "run")
    images = timm.data.resolve_model_data_config(model)
    assert [list(images[name]) for name in ("input_size", "mean", "std")] == [[3, 32, 32], MEAN, STD]
    other = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=10, in_chans=1).eval()
    assert other(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    grey = torch.rand(2, 1, 32, 32)  # timm sums the first layer's weights over the channels
    torch.testing.assert_close(
        other.forward_features(grey), model.eval().forward_features(grey.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4
    )


@pytest.mark.filterwarnings("default")  # those of transformers are not ours to fix
@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "timm:test_vit"])
def test_transformers_reads_the_hub_folder(tmp_path, name):
    transformers = pytest.importorskip("transformers", reason="transformers is not a dependency")
    saved(tmp_path / "run", name, size=32)
    encoder, model = (
        load_encoder(tmp_path / "run"),
        transformers.AutoModel.from_pretrained(export(tmp_path / "run", "hf", tmp_path / "out")),
    )
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        theirs = model.eval()(pixel_values=images).pooler_output
        torch.testing.assert_close(theirs, encoder(images), rtol=1e-5, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("conv-tiny", "timm", r"--format timm.*conv-tiny.*eigenview\.load_encoder"),
        ("conv-tiny", "torchvision", r"conv-tiny.*eigenview\.load_encoder"),
        ("conv-tiny", "hf", r"conv-tiny.*eigenview\.load_encoder"),
        ("torchvision:squeezenet1_1", "timm", "squeezenet1_1.*--format torchvision"),
        ("timm:mobilenetv3_small_050", "torchvision", "mobilenetv3_small_050.*--format timm"),
        ("timm:test_resnet", "hf", "test_resnet.*small stem.*--format timm"),
        ("conv-tiny", "coreml", "--format.*coreml.*timm, torchvision, onnx, hf"),
    ],
)
def test_formats_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path, name, format, message):
    saved(tmp_path / "run", name, size=32)
    with pytest.raises(UserError, match=message):
        export(tmp_path / "run", format, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_left_alone(tmp_path):
    saved(tmp_path / "run", "timm:mobilenetv3_small_050", size=32)
    with pytest.raises(UserError, match="already holds"):
        export(tmp_path / "run", "timm", tmp_path / "run")


def test_a_failing_disk_leaves_no_half_export(tmp_path, monkeypatch):
    saved(tmp_path / "run", "timm:mobilenetv3_small_050", size=32)
    real = runfiles.write_bytes

    def full_at_the_second_file(path: Path, content: bytes) -> None:
        if path.name == "README.md":
            raise UserError(f"{path} cannot be written: No space left on device.")
        real(path, content)

    monkeypatch.setattr(runfiles, "write_bytes", full_at_the_second_file)
    with pytest.raises(UserError, match="No space left"):
        export(tmp_path / "run", "timm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_onnx_without_its_packages_is_a_clear_error(tmp_path, monkeypatch):
    saved(tmp_path / "run", "conv-tiny")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else found(name))
    with pytest.raises(UserError, match=r"onnx and onnxscript.*eigenview\[onnx\]"):
        export(tmp_path / "run", "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_onnx_of_a_network_that_is_too_large_for_its_format(tmp_path, monkeypatch):
    saved(tmp_path / "run", "conv-tiny")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr("eigenview.models.export.LARGEST_ONNX", 100_000)
    with pytest.raises(UserError, match=r"onnx: conv-tiny has 0\.000\d+ GB of weights.*at most 0\.0001.*--format timm"):
        export(tmp_path / "run", "onnx", tmp_path / "out")


@pytest.mark.filterwarnings("default")  # the exporter's own deprecations are not ours to fix
@pytest.mark.parametrize("name", ["conv-small", "timm:mobilenetv3_small_050"])
def test_onnx_gives_the_same_features_for_any_batch(tmp_path, monkeypatch, name):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is an extra")
    saved(tmp_path / "run", name, size=32)
    with monkeypatch.context() as without:
        without.setattr("tempfile.tempdir", "/nonexistent")
        out = export(tmp_path / "run", "onnx", tmp_path / "out")
    session = run_readme(out, monkeypatch)["session"]
    encoder = load_encoder(tmp_path / "run")
    for n in (1, 5):
        images = torch.randn(n, 3, 32, 32)
        (h,) = session.run(["h"], {"images": images.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(h), encoder(images), atol=1e-4, rtol=1e-4)
