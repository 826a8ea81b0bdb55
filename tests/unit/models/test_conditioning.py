from __future__ import annotations

import pytest
import torch
from tiny import tiny_decoder
from torch import Tensor

from querier.choices import Kind
from querier.errors import InputError
from querier.models.conditioning import build_head
from querier.models.geometry import Geometry

SCALES = {"key_rms": (0.5, 1.0, 2.0), "value_rms": (0.1, 0.2, 0.3), "hidden_rms": (1.0, 4.0, 30.0)}
GEOMETRY = Geometry(3, 32, 4, 2, 8, 100, (None,) * 3, **SCALES)


def rms(vectors: Tensor, *axes: int) -> Tensor:
    return vectors.pow(2).mean(axes).sqrt()


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_soft_prompt_has_the_rms_of_the_embeddings(scale: float) -> None:
    found = build_head(Kind.soft_prompt, GEOMETRY, 0.07, 12, 5, 4, 1.0)(torch.randn(6, 5, 12) * scale).soft_prompt
    assert found.shape == (6, 5, 32)
    assert torch.allclose(rms(found, -1), torch.full((6, 5), 0.07), rtol=1e-2)


def test_a_soft_prompt_is_as_large_as_what_gemma_makes_of_its_embeddings() -> None:
    decoder = tiny_decoder("gemma3")
    weight = decoder.bare.get_input_embeddings().weight
    with torch.no_grad():
        assert decoder.embedding_rms == pytest.approx(
            float(rms(weight[3:], -1).square().mean().sqrt()) * 32**0.5, rel=0.02
        )


def test_the_scale_is_kept_with_the_weights() -> None:
    one, other = (build_head(Kind.soft_prompt, GEOMETRY, value, 12, 5, 4, 1.0) for value in (0.07, 3.0))
    other.load_state_dict(one.state_dict())
    vectors = torch.randn(2, 5, 12)
    assert torch.equal(one(vectors).soft_prompt, other(vectors).soft_prompt)


def test_a_prefix_has_the_rms_of_each_layer() -> None:
    found = build_head(Kind.prefix, GEOMETRY, 1.0, 12, 5, 4, 1.0)(torch.randn(6, 5, 12)).prefix
    assert [(keys.shape, values.shape) for keys, values in found] == [((6, 2, 5, 8), (6, 2, 5, 8))] * 3
    for (keys, values), key, value in zip(found, GEOMETRY.key_rms, GEOMETRY.value_rms, strict=True):
        assert torch.allclose(rms(keys, -1), torch.full((6, 2, 5), key), rtol=1e-2)
        assert torch.allclose(rms(values, -1), torch.full((6, 2, 5), value), rtol=1e-2)


def test_a_prefix_needs_plain_keys_and_values() -> None:
    odd = Geometry(3, 32, 4, 0, 0, 100, (None,) * 3)
    with pytest.raises(InputError, match="prefix"):
        build_head(Kind.prefix, odd, 1.0, 12, 5, 4, 1.0)


def test_a_residual_starts_as_zero_and_reads_every_virtual_token() -> None:
    head = build_head(Kind.residual, GEOMETRY, 1.0, 12, 5, 4, 1.0)
    vectors = torch.randn(6, 5, 12)
    assert [shift.shape for shift in head(vectors).residual] == [(6, 1, 32)] * 3
    assert all(not shift.any() for shift in head(vectors).residual)
    torch.nn.init.normal_(head.up)
    for token in range(5):
        changed = vectors.clone()
        changed[:, token] += 1
        for shift, other in zip(head(vectors).residual, head(changed).residual, strict=True):
            assert not torch.allclose(shift, other)


def test_a_residual_is_a_share_of_the_hidden_states_divided_among_the_layers() -> None:
    vectors, down = torch.randn(6, 5, 12), torch.randn(60, 4)
    deeper = Geometry(6, 32, 4, 2, 8, 100, (None,) * 6, hidden_rms=(1.0, 4.0, 30.0) * 2)
    shares = []
    for geometry, gain in ((GEOMETRY, 1.0), (GEOMETRY, 5.0), (deeper, 1.0)):
        head = build_head(Kind.residual, geometry, 1.0, 12, 5, 4, gain)
        with torch.no_grad():
            head.up.fill_(0.01)  # what some steps of training would have moved
            head.down.copy_(down)
            shifts = head(vectors).residual
        shares.append([float(rms(one)) / of for one, of in zip(shifts, geometry.hidden_rms, strict=True)])
    for share, factor in zip(shares, (1.0, 5.0, 0.5), strict=True):
        assert share == pytest.approx([factor * shares[0][0]] * len(share), rel=1e-4)
    head = build_head(Kind.residual, deeper, 1.0, 12, 5, 4, 5.0)
    assert head.scale.tolist() == pytest.approx([value * 5 / 6 for value in deeper.hidden_rms])


def test_the_scale_of_a_residual_is_kept_with_the_weights() -> None:
    smaller = Geometry(3, 32, 4, 2, 8, 100, (None,) * 3, hidden_rms=(0.1, 0.1, 0.1))
    one, other = (build_head(Kind.residual, geometry, 1.0, 12, 5, 4, 1.0) for geometry in (GEOMETRY, smaller))
    torch.nn.init.normal_(one.up)
    other.load_state_dict(one.state_dict())
    vectors = torch.randn(2, 5, 12)
    for shift, again in zip(one(vectors).residual, other(vectors).residual, strict=True):
        assert torch.equal(shift, again)


@pytest.mark.parametrize("kind", [Kind.soft_prompt, Kind.prefix, Kind.residual])
def test_zero_vectors_have_finite_gradients(kind: Kind) -> None:
    head = build_head(kind, GEOMETRY, 1.0, 12, 5, 4, 1.0)
    vectors = torch.zeros(2, 5, 12, requires_grad=True)
    found = head(vectors)
    parts = [found.soft_prompt] if found.soft_prompt is not None else []
    parts += [part for pair in found.prefix or [] for part in pair] + (found.residual or [])
    sum(part.sum() for part in parts).backward()
    assert vectors.grad.isfinite().all()


def test_none_gives_nothing() -> None:
    found = build_head(Kind.none, GEOMETRY, 1.0, 12, 5, 4, 1.0)(torch.randn(2, 5, 12))
    assert (found.soft_prompt, found.prefix, found.residual) == (None, None, None)
