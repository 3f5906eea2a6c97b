from dataclasses import replace

import pytest

from hrpose_cli.training.recipe import Recipe, complete_recipe, learning_rate


@pytest.mark.parametrize(
    ("way", "cosine", "steps"),
    [(0.0, 1.0, 1.0), (0.5, 0.505, 1.0), (0.82, 0.08645, 0.1), (0.96, 0.01390, 0.01), (1.0, 0.01, 0.01)],
)
def test_learning_rate_follows_the_schedule(way: float, cosine: float, steps: float) -> None:
    recipe = Recipe(lr=1.0, final=0.01, warmup=10)
    assert learning_rate(recipe, 99, way) == pytest.approx(cosine, rel=2e-2)
    assert learning_rate(replace(recipe, schedule="step"), 99, way) == pytest.approx(steps)
    assert learning_rate(recipe, 0, 0.0) == pytest.approx(0.1)


def test_complete_recipe_takes_a_lower_rate_for_a_trained_net() -> None:
    assert (complete_recipe(Recipe(), 32).lr, complete_recipe(Recipe(), 32, init=True).lr) == (1e-3, 1e-4)
    given = Recipe(lr=0.0, batch=3, norms="batch")
    assert complete_recipe(given, 32, init=True, folded=True) == given


def test_complete_recipe_freezes_norms_without_statistics() -> None:
    assert (complete_recipe(Recipe(), 32).norms, complete_recipe(Recipe(), 32, folded=True).norms) == (
        "batch",
        "frozen",
    )
