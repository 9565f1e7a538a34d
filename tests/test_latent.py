import math

import numpy as np
import pytest
import torch

from betavae import Directions, Editor
from betavae.latent import EASINGS, along, lerp, neighbours, sample, slerp, traverse

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


SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])


def test_a_path_goes_through_its_faces_at_even_times():
    torch.testing.assert_close(along(SQUARE, torch.tensor([0, 0.25, 0.5, 0.75, 1]), "lerp"),
                               torch.tensor([[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1]]))
    faces = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    for method in ("lerp", "slerp"):
        torch.testing.assert_close(along(faces, torch.linspace(0, 1, 5), method), faces)
    # Two faces are one leg.
    assert torch.equal(along(faces[:2], T, "slerp"), slerp(faces[0], faces[1], T))


def test_a_closed_path_comes_back_without_a_seam():
    t = torch.arange(120) / 120
    path = along(SQUARE, t, "lerp", closed=True)
    torch.testing.assert_close(along(SQUARE, torch.ones(1), "lerp", closed=True)[0], SQUARE[0])
    # The step from the last frame to the first is as long as the steps of that leg.
    step = (path[-1] - path[-2]).norm()
    torch.testing.assert_close((path[0] - path[-1]).norm(), step)


def test_easing_keeps_the_ends_and_the_way_and_changes_the_speed():
    t = torch.linspace(0, 1, 101)
    share = {easing: along(SQUARE[:2], t, "lerp", easing)[:, 0] for easing in EASINGS}
    for progress in share.values():
        assert progress[0] == 0 and progress[-1] == 1 and (progress.diff() >= 0).all()
    torch.testing.assert_close(share["linear"], t)
    torch.testing.assert_close(share["ease out"], 1 - share["ease in"].flip(0))
    speed = share["ease in-out"].diff()
    assert speed[0] < 0.1 * speed[50] and speed[-1] < 0.1 * speed[50]
    assert share["ease in"][50] == 0.25


@pytest.mark.parametrize(("arguments", "named"), [
    ((SQUARE[:1], T), "at least 2 faces; there is 1"), ((SQUARE, T, "cubic"), "'cubic'.*lerp, slerp"),
    ((SQUARE, T, "lerp", "bounce"), "'bounce'.*linear"),
])
def test_what_is_no_path_is_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        along(*arguments)


def test_neighbours_are_at_the_radius_on_all_sides():
    z = torch.randn(8, generator=torch.Generator().manual_seed(1))
    around = neighbours(z, 4000, seed=0, radius=2.5)
    torch.testing.assert_close((around - z).norm(dim=1), torch.full((4000,), 2.5))
    assert (around - z).mean(0).abs().max() < 0.05
    assert torch.equal(around, neighbours(z, 4000, 0, 2.5)) and torch.equal(neighbours(z, 2, 0, 0), z.expand(2, 8))


def test_interpolation_ends_at_both_faces(tiny):
    editor = Editor(tiny, Directions([], 8))
    a, b = editor.sample(2, seed=0)
    for method in ("lerp", "slerp"):
        row = [np.asarray(image, dtype=int) for image in editor.interpolate(a, b, 5, method)]
        # One level of rounding: a batch of another size is summed in another order.
        for image, expected in zip((row[0], row[-1], row[1]), [*editor.decode(torch.stack([a, b])),
                                                               *editor.interpolate(a, b, [0.25], method)], strict=True):
            assert np.abs(image - np.asarray(expected)).max() <= 1
        assert np.abs(row[0] - row[-1]).max() > 5
    with pytest.raises(ValueError, match=r"'cubic'.*lerp, slerp"):
        editor.interpolate(a, b, 5, "cubic")


@pytest.mark.parametrize(("z", "named"), [(torch.zeros(2, 9), r"\(2, 9\)"), (torch.zeros(1, 1, 8), r"\(1, 1, 8\)"),
                                          (torch.full((1, 8), float("nan")), "finite")])
def test_decode_refuses_what_is_no_latent(tiny, z, named):
    with pytest.raises(ValueError, match=named):
        Editor(tiny, Directions([], 8)).decode(z)
