"""The comparison of runtimes: the same answers are called the same, and a moved class is counted."""

from __future__ import annotations

import pytest
import torch

from tests.bench_runtime import measure


def test_equal_answers_agree_and_a_moved_class_is_counted() -> None:
    images = [torch.zeros(1, 3, 4, 5)]
    images[0][:, 1] = 1.0

    def one_pixel_moved(given: torch.Tensor) -> torch.Tensor:
        answer = given.clone()
        answer[0, 2, 0, 0] = 3.0
        return answer

    base, same, moved = measure(
        "toy", images, {"eager": lambda given: given, "same": lambda given: given + 1, "moved": one_pixel_moved}
    )
    assert (base.same, same.same, moved.same) == (1.0, 1.0, pytest.approx(19 / 20))
    assert same.change == pytest.approx(0, abs=1e-6)
    assert moved.change > 0.5


def test_answers_of_a_grader_are_yes_or_no_each() -> None:
    (_, other) = measure(
        "grader", [torch.tensor([[2.0, -1.0, 0.5, -3.0]])], {"eager": lambda x: x, "other": lambda x: x - 1.0}
    )
    assert other.same == 0.75
