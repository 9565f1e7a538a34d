"""Conditions on labels and measured columns, such as "Male and not No_Beard"."""

import ast
import re
from collections.abc import Mapping

import numpy as np

from train.directions.simple import MIN_FACES


class ConditionError(ValueError):
    """The condition cannot be read, or too few faces meet it. The message is one sentence."""


def condition(text: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which faces meet a condition such as "Male and not No_Beard and (Blond_Hair or yaw > 20)": (n,) bool.

    Raises
    ------
    ConditionError
        It cannot be read, names an unknown column, or fewer than 30 faces meet it or its opposite.
    """
    met = _met(text, columns)
    for count, verb in ((int(met.sum()), "meet"), (int((~met).sum()), "do not meet")):
        if count < MIN_FACES:
            raise ConditionError(f"{count} of {len(met):,} faces {verb} the condition {text!r}; {MIN_FACES} are needed.")
    return met


def condition_names(text: str, columns: Mapping[str, np.ndarray]) -> set[str]:
    """The columns that a condition names.

    Raises
    ------
    ConditionError
        It cannot be read, or names an unknown column.
    """
    _met(text, columns)
    return set(re.findall(r"[A-Za-z0-9_.]+", text)) & columns.keys()


def _met(text: str, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    names = list(columns)
    unreadable = ConditionError(f"The condition {text!r} cannot be read; join names with and, or, not and brackets.")
    # CelebA has a name that starts with a digit, which Python's grammar does not allow: names are numbered before parsing.
    numbered = re.sub(r"[A-Za-z0-9_.]+", lambda word: f"_{names.index(word[0])}" if word[0] in columns else word[0], text)
    try:
        tree = ast.parse(numbered, mode="eval").body
    except SyntaxError:
        raise unreadable from None

    def column(node: ast.Name) -> np.ndarray:
        if not re.fullmatch(r"_\d+", node.id):
            raise ConditionError(f"The condition {text!r} names {node.id!r}; choose from {', '.join(names)}.")
        return columns[names[int(node.id[1:])]]

    def met_by(node: ast.expr) -> np.ndarray:
        match node:
            case ast.BoolOp(op=operator, values=parts):
                join = np.logical_and if isinstance(operator, ast.And) else np.logical_or
                return join.reduce([met_by(part) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return ~met_by(part)
            case ast.Compare(left=ast.Name() as left, ops=[ast.Gt() | ast.Lt() as operator], comparators=[bound]):
                try:
                    limit = float(ast.literal_eval(bound))
                except (ValueError, TypeError):
                    raise ConditionError(f"The condition {text!r} compares with something that is no number.") from None
                return column(left) > limit if isinstance(operator, ast.Gt) else column(left) < limit
            case ast.Name():
                return column(node) > 0.5
        raise unreadable

    return met_by(tree)
