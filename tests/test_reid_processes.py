"""Re-ID training by two CPU processes, as several GPUs do it."""

import json
from pathlib import Path

import numpy as np
import pytest
from launching import launch
from reid_parts import people, save_tiny_clip, tiny_params

from posedive_lib.reid.models import create_model


def work(name: str, folder: str, clip: str) -> None:
    """What one process does: train, go on from a checkpoint that is finished, extract."""
    params = tiny_params(
        stage1__steps=4,
        stage2__steps=6,
        resnet__steps=6,
        checkpoint_every=2,
        batch_size=12,
        instances=3,
    )
    model, again = (
        create_model(name, params, clip if name == "clip-reid" else None, 32, 16, "cpu")
        for _ in range(2)
    )
    history, _ = (
        m.fit(people(6, 6), seed=0, checkpoints=Path(folder) / "run") for m in (model, again)
    )
    features = [m.extract(people(4, 4, seed=1).images) for m in (model, again)]
    np.savez(
        Path(folder) / f"{model.machine.index}.npz",
        features=features[0],
        again=features[1],
        history=json.dumps(history),
        processes=model.machine.processes,
    )


@pytest.mark.parametrize("name", ["clip-reid", "resnet"])
def test_two_processes_train_one_model(name, tmp_path):
    """Each sees its own half of every batch and has its own losses.

    Gradients are averaged, so that both hold the same weights.
    """
    clip = save_tiny_clip(tmp_path / "clip")
    launch("test_reid_processes", "work", [name, tmp_path, clip], 2)
    one, two = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    assert one["processes"] == two["processes"] == 2
    losses = [json.loads(str(part["history"])) for part in (one, two)]
    last = [of_run["stage2" if name == "clip-reid" else "resnet"]["loss"] for of_run in losses]
    assert last[0] != last[1] and all(np.isfinite(of_run).all() for of_run in last)
    np.testing.assert_allclose(one["features"], two["features"], atol=1e-5)
    np.testing.assert_allclose(one["again"], one["features"], atol=1e-5)
    (tmp_path / "alone").mkdir()
    work(name, str(tmp_path / "alone"), clip)
    alone = np.load(tmp_path / "alone" / "0.npz")
    assert alone["processes"] == 1 and not np.allclose(
        alone["features"], one["features"], atol=1e-5
    )
