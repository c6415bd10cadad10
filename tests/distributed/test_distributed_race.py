"""A race of several processes: one trains, and all get its readings."""

from pathlib import Path
from typing import Any

import pytest
from two_processes import in_two_processes

import darts_noise as dn
from darts_noise.search import candidate_trainings
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.race import combinations, narrowed, race


def raced() -> dict[str, Any]:
    """The heats of a small race, and the number of trainings that this process made."""
    data = dn.ImageDataModule("digits", train_samples=80, batch_size=20)
    data.setup()
    config = dn.SearchConfig(
        *("noise", 1, {"width": [1.0, 0.5], "pooling": ["average_4"], "input_filter": ["none"]}),
        *(4, 3, "small"),
        noise_samples=20,
        candidate_epochs=1,
        race=4,
    )
    module = dn.SearchModule(narrowed(config, combinations(config)[0]))
    module.build(data)
    made = 0

    def count(*args: Any, **more: Any) -> Any:
        nonlocal made
        made += 1
        return usual(*args, **more)

    usual = CandidateTrainings._train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CandidateTrainings, "_train", count)
        patch.setattr(candidate_trainings, "NOISE_EPOCHS", 2)
        heats = race(config, module, data)
    return {"heats": [heat.to_dict() for heat in heats], "made": made}


def test_one_process_races_and_all_get_the_heats(tmp_path: Path) -> None:
    alone = raced()
    first, second = in_two_processes(raced, tmp_path)
    assert first == alone
    assert second == {**alone, "made": 0}
