"""PyTorch still does what train/private.py uses it for."""

import ast
from pathlib import Path

import torch
from torch import nn

from train import private

ROOT = Path(__file__).parent.parent


def test_lists_of_tensors_are_measured_scaled_and_moved():
    tensors = [torch.tensor([3.0, 4.0]), torch.full((2, 2), 1.0)]
    torch.testing.assert_close(private.norms(tensors), torch.tensor([5.0, 2.0]))
    private.scale_(tensors, torch.tensor([2.0, 0.5]))
    torch.testing.assert_close(private.norms(tensors), torch.tensor([10.0, 1.0]))
    private.move_(tensors, [torch.zeros(2), torch.zeros(2, 2)], 0.75)
    torch.testing.assert_close(private.norms(tensors), torch.tensor([2.5, 0.25]))


def test_a_guarded_step_divides_and_a_bad_one_changes_nothing():
    def stepped(gradient: float, **options) -> float:
        weight = nn.Parameter(torch.tensor([1.0]))
        optimizer = torch.optim.AdamW([weight], lr=0.1, eps=1.0, weight_decay=0, fused=True)
        weight.grad = torch.tensor([gradient])
        private.guarded_step(optimizer, **options)
        return weight.item()

    good = torch.tensor(False)
    assert stepped(6.0, bad=good, divisor=torch.tensor(3.0)) == stepped(2.0, bad=good) != stepped(6.0, bad=good)
    assert stepped(6.0, bad=torch.tensor(True)) == 1


def test_no_other_module_uses_a_private_name_of_pytorch():
    found = []
    for path in [*(ROOT / "betavae").rglob("*.py"), *(ROOT / "train").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                found += [path.name] * node.attr.startswith("_")
    assert set(found) == {"private.py"}
