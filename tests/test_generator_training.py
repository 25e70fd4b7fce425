"""Training and sampling of the generator.

They give the same with accumulation, several processes, compilation and pictures in between.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler
from launching import launch
from PIL import Image
from test_generator import (  # noqa: F401
    arrays,
    generate,
    inputs,
    loss_of,
    model,
    one_thread,
    parameters,
    pictures,
    stable_diffusion,
    trained,
    wake_guiders,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from posedive_lib import checkpoints
from posedive_lib.devices import processes
from posedive_lib.errors import StudyError
from posedive_lib.generator import saved
from posedive_lib.generator.arrays import TrainingArrays, join
from posedive_lib.generator.denoising import denoise
from posedive_lib.generator.likeness import psnr
from posedive_lib.generator.loss_log import LossLog
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.generator.pairs import Pairs
from posedive_lib.generator.reference import ReferenceCall, keys_and_values
from posedive_lib.generator.sampling import load
from posedive_lib.generator.saved import load_weights
from posedive_lib.generator.trainer import Errors, Trainer, learning_rate
from posedive_lib.generator.training import train

ROOT = Path(__file__).resolve().parents[1]


def run(stable_diffusion, arrays, folder, **changes):
    train(
        stable_diffusion,
        arrays,
        parameters(**{"steps": 3, "log_every": 1, **changes}),
        folder,
        0,
        progress=False,
        cpu=True,
    )
    return np.loadtxt(folder / "losses.csv", delimiter=",", skiprows=1), folder


@pytest.fixture(scope="module")
def plain_run(stable_diffusion, arrays, tmp_path_factory):  # noqa: F811
    return run(stable_diffusion, arrays, tmp_path_factory.mktemp("plain"))


def weights(folder):
    return load(folder / "generator", device="cpu").model.state_dict()


def assert_same_run(one, other, atol=2e-4):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-4)
    a, b = weights(one[1]), weights(other[1])
    assert max((a[name] - b[name]).abs().max().item() for name in a) < atol


def test_accumulation_and_checkpointing_change_only_rounding(
    stable_diffusion, arrays, plain_run, tmp_path
):  # noqa: F811
    assert_same_run(
        plain_run,
        run(
            stable_diffusion, arrays, tmp_path, gradient_accumulation=2, gradient_checkpointing=True
        ),
    )


def test_pictures_in_between_do_not_touch_training(stable_diffusion, arrays, plain_run, tmp_path):  # noqa: F811
    other = run(stable_diffusion, arrays, tmp_path, sample_every=1)
    assert (other[1] / "losses.csv").read_text() == (plain_run[1] / "losses.csv").read_text()
    a, b = weights(plain_run[1]), weights(other[1])
    assert all(torch.equal(a[name], b[name]) for name in a)
    drawn = sorted((tmp_path / "samples").glob("*.png"))
    assert [path.name for path in drawn] == [f"step_{step:06d}.png" for step in (1, 2, 3)]
    assert Image.open(drawn[0]).size == (12 * 16, 5 * 32)


def test_gauges_tell_how_like_the_truth_the_drawn_and_the_copied_are(
    stable_diffusion,  # noqa: F811
    arrays,
    tmp_path,
):
    run(stable_diffusion, arrays, tmp_path, sample_every=1)
    file = tmp_path / "samples/gauges.csv"
    gauges = pd.read_csv(file)
    assert gauges["step"].tolist() == [1, 2, 3]
    assert list(gauges.columns[1:]) == ["psnr_person", "self_copy_psnr", "self_copy_psnr_person"]
    assert gauges["self_copy_psnr"].between(3, 40).all()
    # the picture's last row is the copy of the one above it
    picture = np.asarray(Image.open(tmp_path / "samples/step_000003.png"))
    truth, copied = (
        picture[32 * row : 32 * (row + 1)].reshape(32, 12, 16, 3).swapaxes(0, 1) for row in (3, 4)
    )
    whole = np.ones(truth.shape[:3], bool)
    shown = psnr(copied, truth, whole).mean()
    assert abs(shown - gauges["self_copy_psnr"].iloc[-1]) < 2  # over 12 of the 24 pairs


def work(folder, stable_diffusion):  # noqa: F811
    """What one process does; the folder holds the arrays."""
    folder = Path(folder)
    data = TrainingArrays.read(folder / "arrays.npz")
    finished = train(
        stable_diffusion,
        data,
        parameters(steps=2, log_every=1),
        folder / "run",
        0,
        progress=False,
        cpu=True,
    )
    generator = load(finished, device="cpu")
    references, maps = (
        pictures(3, 3, 20),
        (pictures(5, 3, 21), pictures(5, 1, 22), pictures(5, 3, 23)),
    )
    images = generator.generate(references, [2, 0, 1, 0, 2], *maps, seeds=range(5), progress=False)
    np.save(folder / f"images-{processes().process_index}.npy", images)


def test_two_processes_train_and_sample_as_one_does(stable_diffusion, arrays, tmp_path):  # noqa: F811
    """What several GPUs do, on two CPU processes: same batches, same losses, same images."""
    for number in "12":
        (tmp_path / number).mkdir()
        arrays.save(tmp_path / number / "arrays.npz")
    work(tmp_path / "1", stable_diffusion)
    launch("test_generator_training", "work", [tmp_path / "2", stable_diffusion], 2)
    one, two = (
        (
            np.loadtxt(tmp_path / n / "run/losses.csv", delimiter=",", skiprows=1),
            tmp_path / n / "run",
        )
        for n in "12"
    )
    assert_same_run(one, two)
    images = [np.load(tmp_path / "2" / f"images-{rank}.npy") for rank in (0, 1)]
    assert np.array_equal(*images)
    assert np.abs(images[0].astype(int) - np.load(tmp_path / "1/images-0.npy")).max() <= 2


def test_compiled_model_computes_the_same(model):  # noqa: F811
    """Traced as one graph: processors keep nothing between calls that a compiler must guard."""
    wake_guiders(model)
    latents, t, tokens, *maps = inputs(2)

    def both(latents, t, tokens, *maps):
        return model(
            latents,
            t,
            tokens,
            model.reference_features(latents.flip(0), tokens),
            *maps,
            keep=torch.tensor([True, False]),
        )

    compiled = torch.compile(both, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(latents, t, tokens, *maps), both(latents, t, tokens, *maps)
        )
        torch.testing.assert_close(
            compiled(latents, t, tokens, *maps), both(latents, t, tokens, *maps)
        )


def test_nothing_is_left_on_the_modules(model):  # noqa: F811
    def tensors():
        kept = {id(x) for m in model.modules() for x in vars(m).values() if torch.is_tensor(x)}
        processors = model.denoising_unet.attn_processors.items()
        return kept | {(name, key) for name, p in processors for key in vars(p)}

    before = tensors()
    loss_of(model, keep=torch.tensor([True, False])).backward()
    assert tensors() == before


def test_half_the_queries_cost_about_half(model):  # noqa: F811
    """FLOPs of attention against concatenate, attend, keep the first half: exactly half.

    With the projections, 6 of 8 parts of those.
    """
    name, attn = next(
        (n, m) for n, m in model.denoising_unet.named_modules() if n.endswith("attn1")
    )
    n = 512  # tokens: enough that attention outweighs the projections, as at the paper's size
    f1, f2 = torch.randn(2, n, 16), torch.randn(2, n, 16)
    call = ReferenceCall("read", {f"{name}.processor": f2})

    def flops(work):
        with (
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            work()
        return counter.get_total_flops()

    ours, naive = (
        flops(lambda: attn(f1, reference=call)),
        flops(lambda: attn(torch.cat([f1, f2], dim=1))[:, :n]),
    )
    projection, attention = (
        2 * 2 * n * 16 * 16,
        2 * 2 * n * n * 16,
    )  # of f1 by one matrix; scores of f1 against f1, both for a batch of 2
    assert (
        ours == 6 * projection + 2 * 2 * attention and naive == 8 * projection + 2 * 4 * attention
    )
    assert 0.5 <= ours / naive < 0.52
    with torch.no_grad():
        torch.testing.assert_close(
            attn(f1, reference=call), attn(torch.cat([f1, f2], dim=1))[:, :n], atol=1e-5, rtol=1e-4
        )


def test_keys_and_values_made_once_equal_those_of_every_step(model):  # noqa: F811
    latents, t, tokens, *maps = inputs(2)
    with torch.no_grad():
        features = model.reference_features(latents.flip(0), tokens)
        once = keys_and_values(model.denoising_unet, features)
        guide = model.guiders(*maps)
        torch.testing.assert_close(
            model.guided(latents, t, tokens, once, guide, 2.0),
            model.guided(latents, t, tokens, features, guide, 2.0),
        )


def test_guided_sampling_equals_a_loop_that_reuses_nothing(model, stable_diffusion):  # noqa: F811
    """Reference forward at every step, each branch alone, one sample at a time."""
    model.eval()
    wake_guiders(model)
    torch.nn.init.normal_(model.null_tokens)
    latents, _, tokens, *maps = inputs(2)
    with torch.no_grad():
        features = keys_and_values(model.denoising_unet, model.reference_features(latents, tokens))
        scheduler = load_scheduler(stable_diffusion, parameters())
        ours = denoise(
            model, scheduler, tokens, features, model.guiders(*maps), [7, 8], steps=3, guidance=2.0
        )
        for row in range(2):
            one = slice(row, row + 1)
            scheduler = load_scheduler(stable_diffusion, parameters())
            scheduler.set_timesteps(3)
            z = torch.randn(4, 8, 4, generator=torch.Generator().manual_seed(7 + row))[None]
            for t in scheduler.timesteps:
                condition = [x[one] for x in maps]
                with_identity = model(
                    z,
                    t[None],
                    tokens[one],
                    model.reference_features(latents[one], tokens[one]),
                    *condition,
                )
                without = model(z, t[None], model.null_tokens.expand(1, 1, -1), None, *condition)
                z = scheduler.step(without + 2.0 * (with_identity - without), t, z).prev_sample
            assert (z - ours[one]).abs().max() <= 1e-4


@pytest.mark.parametrize("left_out", ["depth", "normals", "skeleton"])
def test_a_condition_left_out_has_no_influence(stable_diffusion, trained, left_out):  # noqa: F811
    kept = [name for name in ("depth", "normals", "skeleton") if name != left_out]
    model = load_weights(
        trained, parameters(conditions=kept), stable_diffusion
    )  # phase 2 may leave out what phase 1 had
    whole = load_weights(trained, parameters(), stable_diffusion)
    maps = dict(zip(("depth", "normals", "skeleton"), inputs(2)[3:], strict=True))
    with torch.no_grad():
        before, full = model.guiders(**maps), whole.guiders(**maps)
        changed = model.guiders(**{**maps, left_out: 1 - maps[left_out]})
        assert torch.equal(before, changed) and before.shape == full.shape
        blank = (before == 0).all(dim=(0, 2, 3))
        assert blank.sum() == parameters().guider_widths[left_out] and torch.equal(
            before[:, ~blank], full[:, ~blank]
        )
    assert sorted(model.guiders.guiders) == sorted(kept)


def test_ablations_train_save_and_load(stable_diffusion, arrays, tmp_path):  # noqa: F811
    changes = dict(
        reference_attention=False,
        conditions=["skeleton"],
        pretrained=False,
        prediction_type="epsilon",
        zero_snr=False,
        steps=1,
    )
    folder = train(
        stable_diffusion, arrays, parameters(**changes), tmp_path, 0, progress=False, cpu=True
    )
    assert not (folder / "reference_unet").exists()
    generator = load(folder, device="cpu")
    assert generator.model.reference_unet is None and list(generator.model.guiders.guiders) == [
        "skeleton"
    ]
    assert generate(generator).shape == (5, 32, 16, 3)
    base = load(stable_diffusion, device="cpu").model.denoising_unet.state_dict()["conv_in.weight"]
    assert not torch.allclose(
        generator.model.denoising_unet.state_dict()["conv_in.weight"], base, atol=1e-2
    )  # one step moves it by 1e-3
    with pytest.raises(StudyError, match="phase1 to null"):
        train(
            stable_diffusion,
            arrays,
            parameters(**changes),
            tmp_path / "b",
            0,
            init_from=folder,
            progress=False,
            cpu=True,
        )


def test_patch_tokens_train_and_sample(stable_diffusion, arrays, tmp_path):  # noqa: F811
    tokens = np.random.default_rng(0).standard_normal((len(arrays), 9, 24), dtype=np.float32)
    data = TrainingArrays(**{**vars(arrays), "clip_tokens": tokens})
    folder = train(
        stable_diffusion,
        data,
        parameters(clip_tokens="patch", steps=1),
        tmp_path,
        0,
        progress=False,
        cpu=True,
    )
    assert generate(load(folder, device="cpu")).shape == (5, 32, 16, 3)


def test_bfloat16_is_close_to_float32(stable_diffusion, arrays, plain_run, trained, tmp_path):  # noqa: F811
    losses, _ = run(stable_diffusion, arrays, tmp_path, precision="bf16")
    np.testing.assert_allclose(losses[:, 1], plain_run[0][:, 1], rtol=0.03)
    exact, rough = (
        generate(load(trained, device="cpu", precision=precision)).astype(int)
        for precision in (None, "bf16")
    )
    assert 0 < np.abs(exact - rough).max() <= 40 and np.abs(exact - rough).mean() < 3


def test_schedulers_by_name(trained):  # noqa: F811
    generator = load(trained, device="cpu")
    assert generate(generator, scheduler="UniPCMultistepScheduler").shape == (5, 32, 16, 3)
    for name in ("Nonsense", "AutoencoderKL"):
        with pytest.raises(StudyError, match="name a scheduler of diffusers"):
            generate(generator, scheduler=name)
    # This one passes over zero terminal SNR: it would sample at other noise levels.
    with pytest.raises(StudyError, match="PNDMScheduler has no rescale_betas_zero_snr"):
        generate(generator, scheduler="PNDMScheduler")
    with pytest.raises(StudyError, match="has no prediction_type"):
        generate(generator, scheduler="FlowMatchEulerDiscreteScheduler")


def test_the_five_line_example_runs(tmp_path, monkeypatch):
    """A photo, a pose and a camera give an image, word for word as the docstring of `load` says."""
    from posedive_lib.body.poses import load_poses

    code = load.__doc__.split("A photo, a pose and a camera give an image:")[1].strip()
    assert len(code.splitlines()) == 5
    (tmp_path / "data").symlink_to(ROOT / "data")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)).save(
        tmp_path / "person.png"
    )
    monkeypatch.chdir(tmp_path)
    names = {"load": load, "Image": Image, "load_poses": load_poses}
    exec("\n".join(line.strip() for line in code.splitlines()), names)
    made = Image.open("like_that.png")
    assert made.size == (64, 128) and np.asarray(made).std() > 5
    other = names["generator"].draw(
        names["photo"], names["pose"], azimuth=-90, elevation=10, body="data/body/SMPL_NEUTRAL.npz"
    )
    assert np.abs(np.asarray(other).astype(int) - np.asarray(made)).mean() > 1
    with pytest.raises(StudyError, match="8 bits per channel"):
        names["generator"].draw(
            names["photo"].convert("I"), names["pose"], 0, 0, body="data/body/SMPL_NEUTRAL.npz"
        )
    with pytest.raises(StudyError, match="multiples of"):
        names["generator"].draw(
            names["photo"].crop((0, 0, 60, 128)),
            names["pose"],
            0,
            0,
            body="data/body/SMPL_NEUTRAL.npz",
        )
    body = "data/body/SMPL_NEUTRAL.npz"
    for wrong, said in (
        ({"betas": np.full(10, np.nan)}, "10 finite numbers"),
        ({"betas": np.zeros(9)}, "10 finite numbers"),
        ({"betas": "a"}, "10 finite numbers"),
        ({"betas": [[1], [1, 2]]}, "10 finite numbers"),
        ({"betas": np.full(10, 1e300)}, "10 finite numbers"),
        *(({"azimuth": value}, "azimuth is") for value in (np.nan, "90", None, [90], True)),
        *(({"seed": value}, "seed is") for value in (2**64, -1, None, 0.5, True)),
        *(({"pose": value}, "There is no pose") for value in (None, 3)),
        ({"focal": "2"}, "focal is '2': give image heights"),
        ({"focal": 0}, "focal length above 0"),
        ({"near": 8, "far": 7}, "near < far"),
        ({"steps": -1}, "steps is -1"),
    ):
        with pytest.raises(StudyError, match=said):
            names["generator"].draw(
                names["photo"],
                **{"pose": names["pose"], "azimuth": 0, "elevation": 0, "body": body, **wrong},
            )


def test_unequal_parts_and_foreign_checkpoints_are_refused(stable_diffusion, arrays, tmp_path):  # noqa: F811
    with pytest.raises(StudyError, match="choose a multiple of 3"):
        run(stable_diffusion, arrays, tmp_path / "a", gradient_accumulation=3)
    from safetensors.torch import save_file

    (tmp_path / "b").mkdir()
    save_file(
        {"model.x": torch.zeros(1)},
        tmp_path / "b/checkpoint.safetensors",
        metadata={"about": json.dumps({"key": "another"})},
    )
    with pytest.raises(StudyError, match="belongs to a training with other data"):
        run(stable_diffusion, arrays, tmp_path / "b")
    (tmp_path / "b/checkpoint.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{half")
    with pytest.raises(StudyError, match="damaged"):
        run(stable_diffusion, arrays, tmp_path / "b")


def test_damaged_and_other_arrays_are_named(arrays, tmp_path):  # noqa: F811
    (tmp_path / "arrays.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(StudyError, match="cannot be read as training arrays"):
        TrainingArrays.read(tmp_path / "arrays.npz")
    for changes, said in (
        ({"latents": None}, "latents is missing"),
        ({"depth": arrays.depth[..., 0]}, "depth is missing or of another shape"),
    ):
        np.savez(
            tmp_path / "other.npz",
            **{
                name: value
                for name, value in {**vars(arrays), **changes}.items()
                if value is not None
            },
        )
        with pytest.raises(StudyError, match=said):
            TrainingArrays.read(tmp_path / "other.npz")


def test_blocks_become_columns_that_stay_on_the_disk(arrays, tmp_path):  # noqa: F811
    files = [tmp_path / "1.npz", tmp_path / "2.npz"]
    for file, rows in zip(files, (slice(5), slice(5, None)), strict=True):
        TrainingArrays(**{name: array[rows] for name, array in vars(arrays).items()}).save(file)
    join(files, len(arrays), tmp_path / "arrays")
    mapped = TrainingArrays.read(tmp_path / "arrays")
    for name, array in vars(arrays).items():
        found = getattr(mapped, name)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype and not found.flags.owndata  # no copy in memory
    column = tmp_path / "arrays/depth.npy"
    column.write_bytes(column.read_bytes()[:-1])
    with pytest.raises(StudyError, match="depth.npy cannot be read as training arrays"):
        TrainingArrays.read(tmp_path / "arrays")


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_from_it(
    stable_diffusion, arrays, plain_run, tmp_path, monkeypatch
):  # noqa: F811
    """A real run: the second checkpoint does not fit and the first survives.

    With space again the run ends as if nothing had been.
    """
    original, calls = checkpoints.save_file, []

    def sometimes_full(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        original(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoints, "save_file", sometimes_full)
    with pytest.raises(StudyError, match="free space"):
        run(stable_diffusion, arrays, tmp_path, checkpoint_every=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "checkpoint.safetensors",
        "losses.csv",
    ]
    monkeypatch.setattr(checkpoints, "save_file", original)
    resumed = run(stable_diffusion, arrays, tmp_path, checkpoint_every=1)
    assert (tmp_path / "losses.csv").read_text() == (plain_run[1] / "losses.csv").read_text()
    assert_same_run(resumed, plain_run, atol=1e-9)


def test_a_full_disk_under_the_loss_log_is_one_sentence_and_a_row_it_cut_is_forgotten(
    plain_run, tmp_path
):
    with pytest.raises(
        StudyError, match="/dev/full cannot be written .No space left on device.: free space"
    ):
        LossLog(Path("/dev/full"), every=1, num_timesteps=1000).add(
            1, np.array([0]), np.array([1.0]), 1.0
        )
    whole, log = (plain_run[1] / "losses.csv").read_text(), tmp_path / "losses.csv"
    for cut in ("", "4", "4,0.5", "4,0.5,1,1,1,1"):
        log.write_text(whole + cut)
        LossLog(log, every=1, num_timesteps=1000).resume(100, [], [])
        assert log.read_text() == whole


def test_a_checkpoint_of_more_steps_is_not_passed_off_as_fewer(
    stable_diffusion, arrays, tmp_path, monkeypatch
):  # noqa: F811
    def stopped(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(saved, "save_model", stopped)
        run(stable_diffusion, arrays, tmp_path, steps=4, checkpoint_every=4)
    with pytest.raises(
        StudyError,
        match=r"has 4 steps behind it, more than generator.steps \(2\): raise generator.steps",
    ):
        run(stable_diffusion, arrays, tmp_path, steps=2, checkpoint_every=4)


def test_files_that_hold_no_training_arrays_are_named_in_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="none.npz is missing"):
        TrainingArrays.read(tmp_path / "none.npz")
    bodies = tmp_path / "smpl.npz"  # a mistake for the arrays, and nothing to delete
    np.savez(bodies, path=np.array(["a.jpg"]))
    with pytest.raises(StudyError, match="smpl.npz holds no training arrays") as said:
        TrainingArrays.read(bodies)
    assert "delete" not in str(said.value) and "remove" not in str(said.value)


def test_a_dropped_token_leaves_the_reference_attention_alone(stable_diffusion, arrays, model):  # noqa: F811
    """Token dropout: what the CLIP token says is gone, what the reference latents say is not.

    And it happens as often as asked.
    """
    trainer = Trainer(
        model,
        arrays,
        parameters(token_dropout=0.25, batch_size=4),
        load_scheduler(stable_diffusion, parameters(), DDPMScheduler),
        0,
        Accelerator(cpu=True),
    )
    wake_guiders(model)
    part = next(trainer.parts(trainer.batch(0))) | {
        "keep": torch.ones(4, dtype=torch.bool),
        "token_keep": torch.zeros(4, dtype=torch.bool),
    }
    errors = Errors(model, 1.0)(part)
    assert torch.equal(Errors(model, 1.0)(part | {"clip_tokens": part["clip_tokens"] + 1}), errors)
    assert not torch.allclose(
        Errors(model, 1.0)(part | {"reference": part["reference"] + 1}), errors
    )
    assert not torch.allclose(Errors(model, 1.0)(part | {"token_keep": part["keep"]}), errors)
    share = torch.cat([trainer.batch(step)["token_keep"] for step in range(200)]).float().mean()
    assert abs(share - 0.75) < 0.06


def test_the_persons_pixels_weigh_as_much_as_asked(stable_diffusion, arrays, model, monkeypatch):  # noqa: F811
    """person_weight 1 is the plain mean of Eq. 1; a great weight leaves the background out."""
    trainer = Trainer(
        model,
        arrays,
        parameters(batch_size=4),
        load_scheduler(stable_diffusion, parameters(), DDPMScheduler),
        0,
        Accelerator(cpu=True),
    )
    batch = next(trainer.parts(trainer.batch(0)))
    height, width = batch["target"].shape[2:]
    normals = torch.zeros_like(batch["normals"])
    normals[..., : normals.shape[2] // height, : normals.shape[3] // width] = (
        1.0  # the body covers the first latent pixel, and no other
    )
    batch["normals"] = normals
    predicted = torch.randn(batch["target"].shape, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(model, "forward", lambda *args, **kwargs: predicted)
    squares = (predicted - batch["target"]).square().mean(1)
    pixels, person = height * width, squares[:, 0, 0]
    assert torch.allclose(Errors(model, 1.0)(batch), squares.mean((1, 2)))
    assert torch.allclose(
        Errors(model, 3.0)(batch), (squares.sum((1, 2)) + 2 * person) / (pixels + 2)
    )
    assert torch.allclose(Errors(model, 1e9)(batch), person, rtol=1e-4)


def pairing(**changes) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(parameters().pairs), **changes})


@pytest.mark.parametrize("count", [1, 4])
def test_pairs_show_one_photo_twice_as_often_as_asked(arrays, count):
    for share in (0.0, 0.3, 1.0):
        pairs = Pairs.of(arrays, pairing(same_photo=share, targets_per_reference=count))
        targets, references = pairs.draw(np.random.default_rng(0), 2000)
        assert abs((targets == references).mean() - share) < 0.05
        assert (arrays.pid[targets] == arrays.pid[references]).all()
        assert (references.reshape(-1, count) == references[::count, None]).all()


def turning() -> SimpleNamespace:
    """Two people before two cameras, four photos each, a quarter turn apart."""
    return SimpleNamespace(
        pid=np.repeat([5, 3], 8),
        camid=np.tile([0, 1], 8),
        azimuth=np.tile(np.repeat([0.0, 90.0, 180.0, -90.0], 2), 2),
        reference_ok=np.arange(16) != 2,
        target_ok=np.arange(16) != 3,
    )


@pytest.mark.parametrize("camera", ["same", "other"])
@pytest.mark.parametrize("count", [1, 2])
def test_partners_are_of_the_wanted_camera_and_turn(camera, count):
    data = turning()
    params = pairing(camera=camera, largest_turn=100.0, targets_per_reference=count)
    targets, references = Pairs.of(data, params).draw(np.random.default_rng(0), 4000)
    assert set(targets) == set(range(16)) - {3} and set(references) == set(range(16)) - {2}
    assert (data.pid[targets] == data.pid[references]).all() and (targets != references).all()
    assert ((data.camid[targets] == data.camid[references]) == (camera == "same")).all()
    apart = np.abs((data.azimuth[targets] - data.azimuth[references] + 180) % 360 - 180)
    assert set(apart) == ({90.0} if camera == "same" else {0.0, 90.0})


def test_a_turn_is_asked_for_only_where_azimuths_are_known(arrays):
    with pytest.raises(StudyError, match="largest_turn needs the azimuth"):
        Pairs.of(arrays, pairing(largest_turn=90.0))


def test_pairs_that_share_a_reference_get_the_errors_that_each_would_get(
    stable_diffusion,  # noqa: F811
    arrays,
    model,
):
    asked = parameters(batch_size=4, pairs=pairing(targets_per_reference=2), token_dropout=0.5)
    scheduler = load_scheduler(stable_diffusion, parameters(), DDPMScheduler)
    trainer = Trainer(model, arrays, asked, scheduler, 0, Accelerator(cpu=True))
    (batch,) = trainer.parts(trainer.batch(0))
    assert torch.equal(batch["reference"][0], batch["reference"][1])
    assert not torch.equal(batch["noisy"][0], batch["noisy"][1])
    with torch.no_grad():
        shared = Errors(model, 1.0, shared=2)(batch)
        alone = Errors(model, 1.0)(batch)
    assert torch.allclose(shared, alone, atol=1e-5)


def test_the_learning_rate_falls_to_nothing_in_the_last_steps():
    falling = parameters(learning_rate=0.4, steps=10, decay_steps=4)
    rates = [learning_rate(falling, step) for step in range(10)]
    assert rates == pytest.approx([0.4] * 7 + [0.3, 0.2, 0.1])
    assert learning_rate(parameters(learning_rate=0.4), 10**6) == 0.4


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_timesteps_spread_over_the_schedule_as_asked(stable_diffusion, arrays, model, power):  # noqa: F811
    """t = T u^power with u uniform: the share below T / 2 is 0.5^(1 / power).

    No batch leaves the noisiest stratum out.
    """
    asked = parameters(batch_size=4, timestep_power=power)
    trainer = Trainer(
        model,
        arrays,
        asked,
        load_scheduler(stable_diffusion, parameters(), DDPMScheduler),
        0,
        Accelerator(cpu=True),
    )
    steps = trainer.scheduler.config.num_train_timesteps
    t = torch.stack([trainer.batch(step)["t"] for step in range(300)])
    assert abs((t < steps / 2).float().mean() - 0.5 ** (1 / power)) < 0.03
    assert (t[:, -1] >= int(0.75**power * steps)).all() and t.max() < steps
