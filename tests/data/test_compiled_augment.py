"""The augmentation by torch.compile: one graph, the same view, and a clear error if it cannot be compiled."""

from functools import partial

import pytest
import torch

from eigenview.data.views import augment as module
from eigenview.data.views.augment import augment
from eigenview.errors import UserError
from tests.data.test_augment import ALL, FULL, pictures, seeded


@pytest.fixture
def compiled_with(monkeypatch):
    def use(**options):
        def compiled(device_type):
            return torch.compile(module.transformed, fullgraph=True, dynamic=False, **options)

        monkeypatch.setattr(module, "_compiled", compiled)

    yield use
    torch.compiler.reset()


def test_the_whole_view_is_one_graph(compiled_with):
    """aot_eager traces and lowers as torch.compile does; fullgraph fails where a branch needs a drawn value."""
    compiled_with(backend="aot_eager")
    images = pictures(6, 24)
    compiled = augment(images, ALL, 16, seeded(15), is_compiled=True)
    torch.testing.assert_close(compiled, augment(images, ALL, 16, seeded(15)), atol=1e-4, rtol=0)


def test_what_cannot_be_compiled_is_said(monkeypatch):
    def failing(graph, inputs):
        raise RuntimeError("no working compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=failing))
    module._compiled.cache_clear()
    try:
        with pytest.raises(UserError, match=r"no working compiler.*Leave compiling out"):
            augment(pictures(2, 24), FULL, 16, seeded(15), is_compiled=True)
    finally:
        module._compiled.cache_clear()
        torch.compiler.reset()


@pytest.mark.slow
def test_the_compiled_view_is_the_view():
    images = pictures(6, 24)
    compiled = augment(images, ALL, 16, seeded(15), is_compiled=True)
    torch.testing.assert_close(compiled, augment(images, ALL, 16, seeded(15)), atol=1e-4, rtol=0)


@pytest.mark.gpu
def test_a_cuda_graph_of_one_view_leaves_the_other_alone():
    images, generator = pictures(64, 64).cuda(), torch.Generator("cuda")
    for seed in range(4):  # warms up, records, replays
        plain = [augment(images, FULL, 48, generator.manual_seed(2 * seed + k)) for k in range(2)]
        graphs = [augment(images, FULL, 48, generator.manual_seed(2 * seed + k), is_compiled=True) for k in range(2)]
        torch.testing.assert_close(graphs, plain, atol=1e-4, rtol=0)
