"""Each guard of the protocol is missed when it is gone: the simulation can fail."""

import pytest
from tests.simulation.history import play
from tests.simulation.mutations import MUTATIONS
from tests.simulation.oracle import Violation

#: As many histories as every run of the tests plays.
_SEEDS = 300


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_guard_that_is_gone_is_missed(name: str) -> None:
    mutation = MUTATIONS[name]
    seeds = (mutation.caught_by, *range(_SEEDS))
    assert any(mutation.caught(seed) for seed in seeds), f"nobody missed the guard: {name}"


def test_a_failure_names_its_seed_and_what_happened() -> None:
    mutation = MUTATIONS["claim that counts no attempt"]
    with pytest.raises(Violation, match=r"seed 3, .*attempt is 0, by its law 1(?s:.*)PROCESSING"):
        play(3, mutate=mutation.mutate)
