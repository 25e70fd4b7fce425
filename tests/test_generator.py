"""The generator on tiny random networks in Stable Diffusion's layout."""

import ast
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from posedive_lib import weights
from posedive_lib.bench.code import notebook_code
from posedive_lib.body.conditions import CONDITIONS
from posedive_lib.devices import computes_bfloat16
from posedive_lib.errors import StudyError
from posedive_lib.generator import sampling
from posedive_lib.generator.arrays import TrainingArrays, TrainingImages, encode
from posedive_lib.generator.drawing import SavedGenerator
from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.guiders import PoseGuiders
from posedive_lib.generator.model import PoseDiveModel
from posedive_lib.generator.noise_schedule import load_scheduler, loss_weights
from posedive_lib.generator.reference import ReferenceCall, names_without_gradient
from posedive_lib.generator.sampling import load
from posedive_lib.generator.trainer import Trainer
from posedive_lib.generator.training import train
from posedive_lib.params.sections import Sampling
from posedive_lib.workers import worker_pool
from posedive_lib.writing import alone_in

ROOT = Path(__file__).resolve().parents[1]
HEIGHT, WIDTH, FACTOR = 32, 16, 4


def parameters(**changes) -> SimpleNamespace:
    defaults = dict(
        prediction_type="v_prediction",
        zero_snr=True,
        snr_gamma=5.0,
        noise_offset=0.05,
        guider_widths={"depth": 4, "normals": 6, "skeleton": 6},
        guider_channels=[4, 4, 8],
        clip_tokens="pooled",
        condition_dropout=0.3,
        token_dropout=0.2,
        pairs=SimpleNamespace(
            camera="other", same_photo=0.0, largest_turn=180.0, targets_per_reference=1
        ),
        decay_steps=0,
        person_weight=1.0,
        timestep_power=1.0,
        conditions=["depth", "normals", "skeleton"],
        reference_attention=True,
        pretrained=True,
        revision=None,
        vae=None,
        image_encoder=None,
        gradient_accumulation=1,
        gradient_checkpointing=False,
        precision="fp32",
        sample_every=0,
        learning_rate=1e-3,
        weight_decay=0.01,
        batch_size=4,
        steps=6,
        ema_decay=0.9,
        log_every=2,
        checkpoint_every=3,
        sampling=SimpleNamespace(scheduler="DDIMScheduler", steps=3, guidance=2.0, batch_size=4),
    )
    return SimpleNamespace(**{**defaults, **changes})


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny tensors: threads cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    """A folder laid out as sd-image-variations: vae, unet, image_encoder, scheduler."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sd") / "stable-diffusion"
    AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[8, 8, 8],
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(folder / "vae")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=24,
        norm_num_groups=8,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(folder / "unet")
    CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            projection_dim=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        )
    ).save_pretrained(folder / "image_encoder")
    (folder / "image_encoder" / "preprocessor_config.json").write_text(
        json.dumps(
            {"size": {"height": 32, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        )
    )
    DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    ).save_pretrained(folder / "scheduler")
    return folder


def pictures(n, channels, seed):
    return np.random.default_rng(seed).integers(
        0, 256, (n, HEIGHT, WIDTH, channels), dtype=np.uint8
    )


def training_images(pids, camids):
    n = len(pids)
    maps = pictures(n, 1, 1), pictures(n, 3, 2), pictures(n, 3, 3)
    return TrainingImages(pictures(n, 3, 0), *maps, np.array(pids), np.array(camids))


@pytest.fixture(scope="module")
def arrays(stable_diffusion):
    images = training_images(np.arange(12) // 3, np.arange(12) % 3)
    return encode(images, Encoders.from_stable_diffusion(stable_diffusion), progress=False)


@pytest.fixture
def model(stable_diffusion):
    torch.manual_seed(1)
    return PoseDiveModel.from_stable_diffusion(stable_diffusion, parameters())


def inputs(n, seed=0):
    """latents, t, tokens, depth, normals, skeleton."""
    g = torch.Generator().manual_seed(seed)
    maps = [torch.rand(n, c, HEIGHT, WIDTH, generator=g) for c in (1, 3, 3)]
    return (
        torch.randn(n, 4, 8, 4, generator=g),
        torch.randint(1000, (n,), generator=g),
        torch.randn(n, 1, 24, generator=g),
        *maps,
    )


def wake_guiders(model):
    """Give the zero-initialised last layers weights, as training would."""
    for guider in model.guiders.guiders.values():
        torch.nn.init.normal_(guider.conv_out.weight, std=0.1)


def test_reference_attention_equals_concatenate_attend_keep_first_half(model):
    model = model.double()
    name, attn = next(
        (n, m) for n, m in model.denoising_unet.named_modules() if n.endswith("attn1")
    )
    f1, f2 = (
        torch.randn(3, 10, 16, dtype=torch.float64),
        torch.randn(3, 10, 16, dtype=torch.float64),
    )
    ours = attn(f1, reference=ReferenceCall("read", {f"{name}.processor": f2}))
    both = torch.cat([f1, f2], dim=1)
    q, k, v = (
        layer(both).unflatten(-1, (2, -1)).transpose(1, 2)
        for layer in (attn.to_q, attn.to_k, attn.to_v)
    )
    naive = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    naive = attn.to_out[0](naive.transpose(1, 2).flatten(2))[:, :10]
    assert (ours - naive).abs().max() <= 1e-10


def test_fresh_model_equals_its_base_unet(stable_diffusion, model):
    base = UNet2DConditionModel.from_pretrained(stable_diffusion / "unet")
    latents, t, tokens, *maps = inputs(3)
    with torch.no_grad():
        torch.testing.assert_close(
            model(latents, t, tokens, None, *maps),
            base(latents, t, tokens).sample,
            atol=1e-6,
            rtol=1e-5,
        )
        wake_guiders(model)
        assert not torch.allclose(
            model(latents, t, tokens, None, *maps), base(latents, t, tokens).sample, atol=1e-3
        )
    assert (
        not model.denoising_unet._forward_hooks and not model.denoising_unet.conv_in._forward_hooks
    )


def test_both_unets_start_from_the_same_weights(model):
    reference = dict(model.reference_unet.named_parameters())
    for name, a in model.denoising_unet.named_parameters():
        assert torch.equal(a, reference[name]) and a is not reference[name], name


def test_frozen_tail_is_exactly_what_gets_no_gradient(model):
    latents, _, tokens, *_ = inputs(2)
    model.reference_unet.requires_grad_(True)
    sum(f2.sum() for f2 in model.reference_features(latents, tokens).values()).backward()
    without = [name for name, p in model.reference_unet.named_parameters() if p.grad is None]
    assert without == names_without_gradient(model.reference_unet) and "conv_out.weight" in without


def test_every_trainable_parameter_gets_a_gradient(model):
    loss_of(model, keep=torch.tensor([True, False])).backward()
    assert [name for name, p in model.trainable().items() if p.grad is None] == []


def loss_of(model, keep=None):
    latents, t, tokens, *maps = inputs(2)
    features = model.reference_features(latents.flip(0), tokens)
    return model(latents, t, tokens, features, *maps, keep=keep).square().mean()


def test_gradient_checkpointing_changes_no_gradient(model):
    wake_guiders(model)
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            model.train().enable_gradient_checkpointing()
        model.zero_grad()
        for _ in range(2):  # accumulation: nothing may be left over from the first call
            loss_of(model, keep=torch.tensor([True, False])).backward()
        gradients.append([p.grad.clone() for p in model.trainable().values()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))


def test_dropout_is_per_sample_and_equals_the_unconditional_branch(model):
    wake_guiders(model)
    torch.nn.init.normal_(model.null_tokens)
    latents, t, tokens, *maps = inputs(3)
    with torch.no_grad():
        features = model.reference_features(latents.flip(0), tokens)
        full = model(latents, t, tokens, features, *maps)
        mixed = model(latents, t, tokens, features, *maps, keep=torch.tensor([True, False, True]))
        alone = model(latents, t, model.null_tokens.expand(3, 1, -1), None, *maps)
        torch.testing.assert_close(mixed[[0, 2]], full[[0, 2]], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mixed[1], alone[1], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(full[1], alone[1], atol=1e-3)
        guided = model.guided(latents, t, tokens, features, model.guiders(*maps), 3.0)
        torch.testing.assert_close(guided, alone + 3.0 * (full - alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_loss_weights_are_min_snr(stable_diffusion, prediction):
    scheduler = load_scheduler(
        stable_diffusion,
        parameters(prediction_type=prediction, zero_snr=prediction != "epsilon"),
        DDPMScheduler,
    )
    weights = loss_weights(scheduler, torch.arange(1000), 5.0)
    assert (
        torch.isfinite(weights).all()
        and weights.min() > 0
        and weights.max() <= 1
        and weights[0] < 0.05
        and weights[-1] == 1
    )
    assert (loss_weights(scheduler, torch.arange(3), 0.0) == 1).all()


def test_clip_input_may_be_a_portrait_and_patch_tokens_are_projected(stable_diffusion):
    images = training_images([0, 0], [0, 1])
    encoders = Encoders.from_stable_diffusion(stable_diffusion)
    tokens = encode(images, encoders, clip_tokens="patch", progress=False).clip_tokens
    pooled = encode(images, encoders, progress=False).clip_tokens
    assert tokens.shape == (2, 1 + 4 * 2, 24)
    np.testing.assert_allclose(tokens[:, :1], pooled, atol=1e-5)  # CLIP pools its class token


def test_a_second_training_in_one_folder_is_refused(stable_diffusion, arrays, tmp_path):
    with (
        alone_in(tmp_path, "training"),
        pytest.raises(StudyError, match="Another run is training in .*: wait for its end"),
    ):
        train(stable_diffusion, arrays, parameters(), tmp_path, 0, progress=False)


def test_resumed_training_is_the_uninterrupted_one(stable_diffusion, arrays, tmp_path, monkeypatch):
    def run(folder):
        return train(stable_diffusion, arrays, parameters(), folder, 0, progress=False)

    whole = run(tmp_path / "whole")
    original = Trainer.step

    def killed(self, step):
        if step == 5:
            raise KeyboardInterrupt
        return original(self, step)

    monkeypatch.setattr(Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(Trainer, "step", original)
    resumed = run(tmp_path / "killed")
    assert (tmp_path / "killed/losses.csv").read_text() == (
        tmp_path / "whole/losses.csv"
    ).read_text()
    assert len((tmp_path / "whole/losses.csv").read_text().splitlines()) == 1 + 3
    for part in ("guiders.safetensors", "denoising_unet/diffusion_pytorch_model.safetensors"):
        assert (whole / part).read_bytes() == (resumed / part).read_bytes()
    monkeypatch.setattr(Trainer, "step", None)  # a finished run takes no step
    assert run(tmp_path / "whole") == whole


@pytest.fixture(scope="module")
def trained(stable_diffusion, arrays, tmp_path_factory):
    return train(
        stable_diffusion,
        arrays,
        parameters(steps=3, learning_rate=5e-3),
        tmp_path_factory.mktemp("run"),
        0,
        progress=False,
    )


def generate(generator, n=5, **options):
    maps = pictures(n, 3, 6), pictures(n, 1, 7), pictures(n, 3, 8)
    return generator.generate(
        pictures(2, 3, 9), np.arange(n) % 2, *maps, seeds=np.arange(n), progress=False, **options
    )


def test_sampling_does_not_depend_on_the_batch(trained):
    generator = load(trained)
    one, all_ = generate(generator, batch_size=1), generate(generator, batch_size=5)
    assert one.shape == (5, HEIGHT, WIDTH, 3) and one.dtype == np.uint8
    assert np.abs(one.astype(int) - all_).max() <= 1
    assert len({image.tobytes() for image in one}) == 5


def test_any_number_of_processes_draws_the_same_images(trained):
    """Each with one thread; without a pool this process draws."""
    way = Sampling(scheduler="DDIMScheduler", steps=2, guidance=2.0, batch_size=3)
    saved = SavedGenerator.of(trained, load(trained).stable_diffusion, way)
    inputs = pictures(2, 3, 9), np.arange(7) % 2, pictures(7, 3, 6), pictures(7, 1, 7)
    inputs += pictures(7, 3, 8), np.arange(7)
    drawn = []
    for count in (1, 2):
        with worker_pool(count) as pool:
            drawn.append(saved.draw(*inputs, pool))
    here = saved.draw(*inputs, None)
    assert np.array_equal(*drawn) and np.array_equal(drawn[0], here)
    assert len({image.tobytes() for image in here}) == 7


def test_reference_unet_runs_once_per_person(trained, monkeypatch):
    generator = load(trained)
    seen = []
    features = generator.model.reference_features
    monkeypatch.setattr(
        generator.model,
        "reference_features",
        lambda latents, tokens: seen.append(len(latents)) or features(latents, tokens),
    )
    generate(generator, n=6, batch_size=2)
    assert sum(seen) == 2


def test_a_photo_is_encoded_once_in_all_calls(trained, monkeypatch):
    generator, seen = load(trained), []
    latents = generator.encoders.latents
    monkeypatch.setattr(
        generator.encoders, "latents", lambda images: seen.append(len(images)) or latents(images)
    )
    first = generate(generator, n=4)
    size = sum(part.nbytes for part in next(iter(generator._identities._encoded.values())))
    monkeypatch.setattr("posedive_lib.generator.identity.ROOM", size)  # of one photo
    assert np.array_equal(generate(generator, n=4), first) and seen == [2]
    again = generate(generator, n=4)
    assert np.abs(again.astype(int) - first).max() <= 1 and seen == [
        2,
        1,
    ]  # one of the two had been let go


def test_other_schedulers_and_no_guidance(trained):
    generator = load(trained)
    images = [
        generate(generator, scheduler=EulerAncestralDiscreteScheduler, batch_size=size)
        for size in (2, 5)
    ]
    assert np.abs(images[0].astype(int) - images[1]).max() <= 1
    assert generate(generator, guidance=1.0).shape == (5, HEIGHT, WIDTH, 3)


def test_saved_generator_loads_to_the_same_images_even_when_moved(
    trained, stable_diffusion, tmp_path
):
    generator = load(trained)
    generator.save(tmp_path / "copy")
    assert np.array_equal(generate(load(tmp_path / "copy", stable_diffusion)), generate(generator))
    assert load(stable_diffusion).params.guider_widths == {"depth": 4, "normals": 6, "skeleton": 6}


def test_phase_2_starts_from_phase_1(trained, stable_diffusion, arrays, tmp_path):
    folder = train(
        stable_diffusion,
        arrays,
        parameters(steps=0),
        tmp_path,
        0,
        init_from=trained,
        progress=False,
    )
    assert (folder / "guiders.safetensors").read_bytes() == (
        trained / "guiders.safetensors"
    ).read_bytes()


def copy_of(trained, tmp_path, stable_diffusion):
    load(trained).save(tmp_path / "generator")
    return tmp_path / "generator"


def test_broken_folders_are_named(trained, stable_diffusion, tmp_path):
    with pytest.raises(StudyError, match="No folder ./nowhere"):
        load("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="neither posedive.json"):
        load(tmp_path / "empty")
    folder = copy_of(trained, tmp_path, stable_diffusion)
    for part in ("guiders.safetensors", "reference_unet/diffusion_pytorch_model.safetensors"):
        whole = (folder / part).read_bytes()
        (folder / part).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(StudyError, match=part.split("/")[0]):
            load(folder)
        (folder / part).write_bytes(whole)
    config = folder / "denoising_unet" / "config.json"
    config.write_text(
        config.read_text().replace('"cross_attention_dim": 24', '"cross_attention_dim": 20')
    )
    with pytest.raises(StudyError, match="denoising_unet"):
        load(folder)


def test_settings_that_say_too_little_are_named(trained, stable_diffusion, tmp_path):
    folder = copy_of(trained, tmp_path, stable_diffusion)
    whole = json.loads((folder / "posedive.json").read_text())
    sampling = whole["generator"]["sampling"]
    cases = [
        ([], "holds a list"),
        (None, "holds a NoneType"),
        ({}, "lacks generator, stable_diffusion"),
        (whole | {"generator": []}, "generator lacks prediction_type"),
        *(
            (
                whole | {"generator": {k: v for k, v in whole["generator"].items() if k != name}},
                f"generator lacks {name}",
            )
            for name in (
                "prediction_type",
                "zero_snr",
                "guider_widths",
                "guider_channels",
                "clip_tokens",
                "sampling",
            )
        ),
        *(
            (
                whole
                | {
                    "generator": whole["generator"]
                    | {"sampling": {k: v for k, v in sampling.items() if k != name}}
                },
                f"sampling lacks {name}",
            )
            for name in ("steps", "guidance", "batch_size")
        ),
        (whole | {"stable_diffusion": None}, "pass stable_diffusion="),
        (whole | {"stable_diffusion": "\0"}, "leads nowhere"),
        (whole | {"stable_diffusion": "a" * 300}, "pass stable_diffusion="),
        *(
            (whole | {"generator": whole["generator"] | wrong}, f"generator.{name} is")
            for name, values in {
                "guider_channels": ([8.0], [True], [8, -1], [0], 8),
                "guider_widths": ({"depth": -1}, {"depth": True}, [3]),
                "conditions": ([], [3], [["depth"]], "depth"),
                "zero_snr": ("no", 1, None),
                "reference_attention": ("false",),
                "vae": ("", 3),
            }.items()
            for wrong in ({name: value} for value in values)
        ),
        (
            whole | {"generator": whole["generator"] | {"sampling": sampling | {"scheduler": 3}}},
            "sampling.scheduler is 3, no name",
        ),
    ]
    for content, said in cases:
        (folder / "posedive.json").write_text(json.dumps(content))
        with pytest.raises(StudyError, match=said):
            load(folder)
    early = {
        k: v
        for k, v in whole["generator"].items()
        if k not in ("conditions", "reference_attention", "pretrained", "vae", "image_encoder")
    }
    (folder / "posedive.json").write_text(
        json.dumps(whole | {"generator": early})
    )  # saved before these could be chosen
    assert load(folder).params.conditions == ["depth", "normals", "skeleton"]
    vae = tmp_path / "sd"
    shutil.copytree(stable_diffusion, vae)
    (vae / "vae/config.json").write_text("{}")
    with pytest.raises(StudyError, match="lacks block_out_channels"):
        load(vae)


def test_moved_stable_diffusion_is_named(trained, stable_diffusion, tmp_path):
    folder = copy_of(trained, tmp_path, stable_diffusion)
    settings = json.loads((folder / "posedive.json").read_text())
    (folder / "posedive.json").write_text(json.dumps({**settings, "stable_diffusion": "gone"}))
    with pytest.raises(StudyError, match="pass stable_diffusion="):
        load(folder)


def test_bad_images_are_refused(trained):
    generator = load(trained)
    maps = [np.zeros((1, 36, 16, c), np.uint8) for c in (3, 1, 3)]
    with pytest.raises(StudyError, match="multiples of 8"):
        generator.generate(np.zeros((1, 36, 16, 3), np.uint8), [0], *maps, [0])
    with pytest.raises(StudyError, match="must be uint8"):
        generator.generate(np.zeros((1, 32, 16, 1), np.uint8), [0], *maps, [0])
    with pytest.raises(StudyError, match="reference_index"):
        generator.generate(
            pictures(1, 3, 0), [1], pictures(1, 3, 0), pictures(1, 1, 0), pictures(1, 3, 0), [0]
        )


@pytest.mark.parametrize(
    "options, said",
    [
        ({"steps": -1}, "steps is -1: give a whole number from 1 to 1000"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"steps": 1001}, "steps is 1001"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": float("inf")}, "guidance is inf"),
        ({"guidance": 0.5}, "guidance is 0.5"),
        ({"guidance": "2"}, "guidance is 2"),
        ({"scheduler": "None"}, "name a scheduler"),
    ],
)
def test_sampling_that_cannot_be_is_refused(options, said, trained):
    with pytest.raises(StudyError, match=said):
        generate(load(trained), **options)


@pytest.mark.parametrize("device", ["cuda:99", "tin", 3.5])
def test_a_device_that_is_not_there_is_named(device, trained, stable_diffusion):
    with pytest.raises(StudyError, match=f"no device '{device}'"):
        load(trained, device=device)
    with pytest.raises(StudyError, match=f"no device '{device}'"):
        Encoders.from_stable_diffusion(stable_diffusion, device)


def test_bad_parameters_are_refused(stable_diffusion):
    with pytest.raises(StudyError, match="sum to 18"):
        PoseGuiders({"depth": 6, "normals": 6, "skeleton": 6}, [4, 4, 8], 16, FACTOR)
    with pytest.raises(StudyError, match="give 3 entries"):
        PoseGuiders({"depth": 4, "normals": 6, "skeleton": 6}, [4, 8], 16, FACTOR)
    with pytest.raises(StudyError, match="zero_snr"):
        load_scheduler(stable_diffusion, parameters(prediction_type="epsilon"))


def test_maps_reach_the_last_layer_of_every_guider():
    """PyTorch's default weights would leave a few hundredths of their variation there."""
    torch.manual_seed(0)
    figure = torch.zeros(1, 1, 64, 32)
    figure[..., 16:56, 8:24] = 0.8
    guiders = PoseGuiders({"depth": 16, "normals": 24, "skeleton": 24}, [8, 16, 32, 64], 64, 8)
    for name, guider in guiders.guiders.items():
        first = last = nn.functional.silu(
            guider.conv_in(figure.expand(-1, CONDITIONS[name], -1, -1))
        )
        for block in guider.blocks:
            last = nn.functional.silu(block(last))
        assert 0.1 < (last.std() / first.std()).item() < 10, name
        assert not guider.conv_out(last).any(), "the last layer starts at zero"


def test_non_finite_loss_names_the_step(stable_diffusion, arrays, tmp_path):
    broken = TrainingArrays(**{**vars(arrays), "latents": np.full_like(arrays.latents, np.nan)})
    with pytest.raises(StudyError, match="not finite at step 1"):
        train(stable_diffusion, broken, parameters(), tmp_path, 0, progress=False)


def test_pairs_need_a_second_image(stable_diffusion, arrays, tmp_path):
    lonely = TrainingArrays(**{**vars(arrays), "pid": np.arange(len(arrays))})
    with pytest.raises(StudyError, match="needs pairs"):
        train(stable_diffusion, lonely, parameters(), tmp_path, 0, progress=False)


def test_a_full_disk_keeps_the_last_good_file(tmp_path, monkeypatch):
    def full(tensors, path, metadata=None):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    file = tmp_path / "guiders.safetensors"
    file.write_bytes(b"the last good one")
    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(StudyError, match="free space"):
        weights.save_tensors({}, file)
    assert file.read_bytes() == b"the last good one" and len(list(tmp_path.iterdir())) == 1


OTHER_SAMPLING = SimpleNamespace(
    scheduler="EulerDiscreteScheduler", steps=2, guidance=4.0, batch_size=3
)


def test_the_callers_sampling_is_used_and_not_the_saved_one(trained, monkeypatch, tmp_path):
    """Scheduler, steps, guidance and batch size; each of them can still be named for one call."""
    used = []
    original = sampling.denoise

    def watched(model, scheduler, tokens, *rest, steps, guidance):
        used.append((type(scheduler).__name__, steps, guidance, len(tokens)))
        return original(model, scheduler, tokens, *rest, steps=steps, guidance=guidance)

    monkeypatch.setattr(sampling, "denoise", watched)
    saved, other = load(trained), load(trained, sampling=OTHER_SAMPLING)
    as_saved = generate(saved, n=3)
    assert used == [("DDIMScheduler", 3, 2.0, 3)]
    asked = generate(other, n=3)
    assert used[1:] == [("EulerDiscreteScheduler", 2, 4.0, 3)]
    assert not np.array_equal(asked, as_saved)
    assert np.array_equal(asked, generate(saved, n=3, **vars(OTHER_SAMPLING)))
    generate(other, n=4, steps=1)
    assert [call[1:] for call in used[3:]] == [(1, 4.0, 3), (1, 4.0, 1)]
    other.save(tmp_path / "copy")  # it takes its sampling along
    assert vars(load(tmp_path / "copy").sampling) == vars(OTHER_SAMPLING)


def careless_loads(code):
    """Calls of `generator.load` without sampling, in code that passes none to `generate` either.

    None where the code loads no generator.
    """
    tree = ast.parse(code)
    places = ("posedive_lib.generator", "posedive_lib.generator.sampling")
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in places
        for alias in node.names
        if alias.name == "load"
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    loads = [
        {keyword.arg for keyword in call.keywords}
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in names
    ]
    spread = any(  # generate(..., **sampling)
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "generate"
        and None in {keyword.arg for keyword in call.keywords}
        for call in calls
    )
    careless = [keywords for keywords in loads if "sampling" not in keywords and not spread]
    return careless if loads else None


def test_every_place_that_samples_passes_the_parameters_sampling():
    """A saved generator holds the sampling of its training, which may have changed since."""
    files = [
        file
        for room in ("augment", "own_data", "study")
        for file in sorted((ROOT / "posedive_lib" / room).glob("*.py"))
    ]
    code = {file.name: file.read_text() for file in files}
    code |= {file.name: notebook_code(file) for file in sorted(ROOT.glob("notebooks/*.ipynb"))}
    found = {name: careless_loads(text) for name, text in code.items()}
    loading = {name for name, loads in found.items() if loads is not None}
    assert {"03_generator_training.ipynb", "08_controlled_comparisons.ipynb"} < loading
    assert not {name for name, careless in found.items() if careless}


@pytest.mark.parametrize("old, new", [("no", "fp32"), ("bf16", "bf16"), ("auto", "auto")])
def test_generators_that_were_saved_with_mixed_precision_load(old, new, trained, tmp_path):
    load(trained).save(tmp_path / "generator")
    file = tmp_path / "generator/posedive.json"
    settings = json.loads(file.read_text())
    del settings["generator"]["precision"]
    settings["generator"]["mixed_precision"] = old
    file.write_text(json.dumps(settings))
    generator = load(tmp_path / "generator", device="cpu")
    assert generator.params.precision == new
    native = computes_bfloat16(torch.device("cpu"))
    assert generator.precision == {"auto": "bf16" if native else "fp32"}.get(new, new)
    assert generate(generator, n=1).shape == (1, HEIGHT, WIDTH, 3)
    with pytest.raises(StudyError, match="generator.precision is 'no': choose one of auto"):
        load(tmp_path / "generator", precision="no")
    with pytest.raises(StudyError, match="generator.precision fp16 needs a GPU"):
        load(tmp_path / "generator", device="cpu", precision="fp16")
