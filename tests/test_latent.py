import math

import numpy as np
import pytest
import torch

from betavae import Directions, Editor
from betavae.latent import lerp, sample, slerp, traverse

T = torch.tensor([0.0, 0.25, 0.5, 1.0])


def test_lerp_is_the_straight_line():
    a, b = torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0])
    assert torch.equal(lerp(a, b, T), torch.tensor([[0, 2], [1, 1.5], [2, 1], [4, 0]]))


def test_slerp_is_the_arc_of_a_circle():
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    expected = 2 * torch.stack([torch.cos(T * math.pi / 2), torch.sin(T * math.pi / 2)], 1)
    torch.testing.assert_close(slerp(a, b, T), expected)


def test_slerp_interpolates_length():
    a, b = torch.randn(32, generator=torch.Generator().manual_seed(0)), torch.randn(32) * 3
    torch.testing.assert_close(slerp(a, b, T).norm(dim=1), (1 - T) * a.norm() + T * b.norm())


@pytest.mark.parametrize("b", [torch.tensor([3.0, 0.0]), torch.tensor([-1.0, 0.0]), torch.zeros(2)])
def test_slerp_where_there_is_no_arc_is_lerp(b):
    a = torch.tensor([1.0, 0.0])
    assert torch.equal(slerp(a, b, T), lerp(a, b, T))


def test_traverse_sets_one_latent_and_leaves_the_face_as_it_was():
    z = torch.randn(8)
    before = z.clone()
    walked = traverse(z, 3, T)
    assert torch.equal(walked[:, 3], T)
    keep = torch.arange(8) != 3
    assert torch.equal(walked[:, keep], z[keep].expand(4, 7))
    assert torch.equal(z, before)


def test_samples_are_the_seeds():
    assert torch.equal(sample(4, 8, seed=3), sample(4, 8, seed=3))
    assert not torch.equal(sample(4, 8, seed=3), sample(4, 8, seed=4))
    assert torch.equal(sample(4, 8, seed=3, temperature=0.5), 0.5 * sample(4, 8, seed=3))
    many = sample(20_000, 8, seed=0)
    assert many.mean().abs() < 0.01 and (many.std() - 1).abs() < 0.01


def test_interpolation_ends_at_both_faces(tiny):
    editor = Editor(tiny, Directions([], 8))
    a, b = editor.sample(2, seed=0)
    for method in ("lerp", "slerp"):
        row = [np.asarray(image, dtype=int) for image in editor.interpolate(a, b, 5, method)]
        # One level of rounding: a batch of another size is summed in another order.
        for image, expected in zip((row[0], row[-1], row[1]), [*editor.decode(torch.stack([a, b])),
                                                               *editor.interpolate(a, b, [0.25], method)]):
            assert np.abs(image - np.asarray(expected)).max() <= 1
        assert np.abs(row[0] - row[-1]).max() > 5
    with pytest.raises(ValueError, match="'cubic'.*lerp, slerp"):
        editor.interpolate(a, b, 5, "cubic")


@pytest.mark.parametrize(("z", "named"), [(torch.zeros(2, 9), r"\(2, 9\)"), (torch.zeros(1, 1, 8), r"\(1, 1, 8\)"),
                                          (torch.full((1, 8), float("nan")), "finite")])
def test_decode_refuses_what_is_no_latent(tiny, z, named):
    with pytest.raises(ValueError, match=named):
        Editor(tiny, Directions([], 8)).decode(z)
