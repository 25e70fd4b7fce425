"""CLIP-ReID and its parts, on a tiny random CLIP made here."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from reid_parts import people, save_tiny_clip, tiny_params
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from posedive_lib import devices
from posedive_lib.errors import StudyError
from posedive_lib.reid import clip_reid_training, image_set, loop, transforms
from posedive_lib.reid.clip_reid import (
    CONTEXT,
    attend,
    from_pretrained,
    patch_grid,
    resize_positions,
)
from posedive_lib.reid.clip_reid_training import PROMPTS_FILE, ClipReIDModel
from posedive_lib.reid.image_set import ImageSet
from posedive_lib.reid.models import MODELS, create_model, load_trained, train_and_evaluate
from posedive_lib.reid.sampler import PKSampler, shuffled_batches
from posedive_lib.weights import load_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_image_encoder_is_clips_own(clip):
    vision = CLIPVisionModelWithProjection.from_pretrained(clip / "image_encoder").eval()
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = vision(pixels, output_hidden_states=True)
        model = from_pretrained(clip, 32, 32, 5, seed=0)[0].eval()
        x11, x12, proj, logits12, logits_proj = model(pixels)
    torch.testing.assert_close(proj, expected.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x11, expected.hidden_states[-2][:, 0], atol=1e-5, rtol=1e-5)
    assert x12.shape == (3, 32) and logits12.shape == logits_proj.shape == (3, 5)
    assert torch.equal(model.features(pixels), torch.cat([x12, proj], dim=1))


def test_prompt_goes_through_clips_own_text_encoder(clip):
    prompts = from_pretrained(clip, 32, 16, 2, seed=0)[1]
    text = CLIPTextModelWithProjection.from_pretrained(clip / "text_encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(clip / "tokenizer")
    words = (
        tokenizer("A photo of a", add_special_tokens=False)["input_ids"],
        tokenizer("person.", add_special_tokens=False)["input_ids"],
    )
    learned = [3, 1, 4, 1]
    ids = torch.tensor(
        [[tokenizer.bos_token_id, *words[0], *learned, *words[1], tokenizer.eos_token_id]]
    )
    padded = torch.nn.functional.pad(ids, (0, 77 - ids.shape[1]), value=tokenizer.eos_token_id)
    with torch.no_grad():
        prompts.context[1] = text.get_input_embeddings()(torch.tensor(learned))
        ours = prompts.all_features()
        torch.testing.assert_close(ours[1:], text(padded).text_embeds, atol=1e-5, rtol=1e-5)
        assert torch.equal(prompts(torch.tensor([1, 0, 1])), ours[[1, 0, 1]])
    assert not torch.allclose(ours[0], ours[1])
    assert prompts.context.shape == (2, CONTEXT, 32) and [
        name for name, value in prompts.named_parameters() if value.requires_grad
    ] == ["context"]


def test_whole_clip_models_load_like_split_ones(tmp_path):
    vision, text, tokenizer = load_clip(save_tiny_clip(tmp_path / "whole", whole=True))
    assert (
        vision.visual_projection.out_features == text.text_projection.out_features == 16
        and tokenizer.eos_token_id is not None
    )
    with torch.no_grad():
        assert vision(torch.randn(2, 3, 32, 32)).image_embeds.shape == (2, 16)
    from_pretrained(tmp_path / "whole", 32, 16, 3, seed=0)
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "whole/model.safetensors")
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[
        None
    ]  # in files of older versions
    save_file(tensors, tmp_path / "whole/model.safetensors", {"format": "pt"})
    load_clip(tmp_path / "whole")
    del tensors["visual_projection.weight"]
    save_file(tensors, tmp_path / "whole/model.safetensors", {"format": "pt"})
    with pytest.raises(StudyError, match=r"1 tensors differ, e\.g\. visual_projection"):
        load_clip(tmp_path / "whole")


def test_a_wrong_folder_gets_one_sentence_and_no_report(tmp_path):
    """transformers would list every weight.

    Its own logger does not go through pytest's capture, hence a process.
    """
    folders = (
        save_tiny_clip(tmp_path / "parts") / "image_encoder",
        save_tiny_clip(tmp_path / "whole", whole=True),
    )
    config = json.loads((folders[1] / "config.json").read_text())
    (folders[1] / "config.json").write_text(
        json.dumps(config | {"projection_dim": 12})
    )  # tensors of another shape
    code = (
        "import sys\nfrom posedive_lib.errors import command\n"
        "from posedive_lib.weights import load_clip\n"
        "print([command()(load_clip)(folder) for folder in sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, folders)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[2, 2]\n"
    sentence = r"The weights in {} are not of the CLIPModel .* tensors differ, e\.g\. \S+; .*\n"
    expected = "".join(sentence.format(re.escape(str(folder))) for folder in folders)
    assert re.fullmatch(expected, done.stderr), done.stderr


def test_attention_on_the_cpu_in_bf16():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 9, 16, generator=generator) for _ in range(3))
    mask = torch.full((9, 9), -torch.inf).triu(1)[None, None]
    for m in (None, mask):
        expected = attend(q, k, v, m)
        low = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), None if m is None else m.bfloat16())
        torch.testing.assert_close(low.float(), expected, atol=0.03, rtol=0.03)


def test_positions_are_resized_to_the_grid():
    positions = torch.cat(
        [torch.full((1, 2), 9.0), torch.arange(4.0).repeat_interleave(4)[:, None].expand(16, 2)]
    )
    resized = resize_positions(positions, (4, 2))
    assert resized.shape == (9, 2) and torch.equal(resized[0], positions[0])
    assert torch.allclose(resized[1:, 0], torch.arange(4.0).repeat_interleave(2))
    assert resize_positions(positions, (4, 4)) is positions
    with pytest.raises(StudyError, match="square"):
        resize_positions(positions[:-1], (4, 4))


def test_overlapping_patches(clip):
    assert patch_grid(256, 128, 16, 12) == (21, 10) and patch_grid(256, 128, 16, None) == (16, 8)
    with pytest.raises(StudyError, match="every 20 pixels"):
        patch_grid(256, 128, 16, 20)
    model = from_pretrained(clip, 32, 16, 3, seed=0, stride=6)[0]
    assert model.encoder.positions.shape == (1 + 5 * 2, 32)
    assert model(torch.randn(2, 3, 32, 16))[1].shape == (2, 32)


def test_a_run_learns_and_is_a_function_of_its_seed(clip):
    train, test = people(6, 6), people(8, 4, seed=1, first=6)
    query, gallery = test.take(test.camids == 0), test.take(test.camids > 0)
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = train_and_evaluate(
        train, query, gallery, tiny_params(), pretrained=clip, seed=1, device="cpu"
    )
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(
        np.random.get_state()[1], before[1]
    )
    torch.manual_seed(99)
    again = train_and_evaluate(
        train, query, gallery, tiny_params(), pretrained=clip, seed=1, device="cpu"
    )
    half = query.pids < np.median(query.pids), gallery.camids > 1
    other, parted = (
        train_and_evaluate(
            train, query, gallery, tiny_params(), pretrained=clip, device="cpu", **own
        )
        for own in ({"seed": 2}, {"seed": 1, "subsets": {"half": half}})
    )
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    # A part of the test changes nothing else, and is what the same model does on it.
    ((mean, top, queries),) = parted.pop("subsets").values()
    assert {**first, "seconds": 0} == {**parted, "seconds": 0}
    assert queries == 4 and 0 <= top <= 100 and 0 < mean <= 100
    assert first["losses"] != other["losses"]
    for stage in ("stage1", "stage2"):
        history = first["losses"][stage]
        assert np.mean(history["loss"][-5:]) < np.mean(history["loss"][:5])
        terms = [values for name, values in history.items() if name not in ("rate", "loss")]
        np.testing.assert_allclose(np.sum(terms, axis=0), history["loss"], rtol=1e-5)
    assert set(first["losses"]["stage2"]) == {
        "rate",
        "loss",
        "id_x12",
        "id_proj",
        "triplet_x11",
        "triplet_x12",
        "triplet_proj",
        "image_to_text",
    }
    assert (
        first["n_query"] == first["n_valid"] == 8
        and first["mAP"] > 60
        and first["rank1"] <= first["rank5"] <= 100
    )
    assert first["n_train"] == 36 and first["n_identities"] == 6 and first["n_generated"] == 0
    assert (
        first["model"] == "clip-reid"
        and first["precision"] == "fp32"
        and first["patch_stride"] is None
        and first["camera_weight"] == 0
    )
    json.dumps(first)


def test_threads_and_low_precision_repeat_too(clip):
    threads, histories = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        for _ in range(2):
            model = ClipReIDModel(
                tiny_params(precision="bf16", stage1__steps=2, stage2__steps=2), clip, 32, 16, "cpu"
            )
            histories.append(model.fit(people(6, 6), seed=0))
    finally:
        torch.set_num_threads(threads)
    assert histories[0] == histories[1]
    with pytest.raises(StudyError, match="fp16 needs a GPU"):
        ClipReIDModel(tiny_params(precision="fp16"), clip, 32, 16, "cpu")


@pytest.mark.parametrize("native, chosen", [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_only_where_it_is_native(native, chosen, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "computes_bfloat16", lambda device: native)
    model = ClipReIDModel(tiny_params(precision="auto"), clip, 32, 16, "cpu").start()
    assert (model.precision, model.machine.dtype) == (chosen, devices.PRECISIONS[chosen])
    model.save(tmp_path)
    monkeypatch.setattr(devices, "computes_bfloat16", lambda device: not native)
    assert load_trained(tmp_path, "cpu").precision == chosen  # as trained, wherever it is loaded
    assert load_trained(tmp_path, "cpu", "auto").precision != chosen


def test_stage2_leaves_the_text_side_alone(clip):
    model = ClipReIDModel(tiny_params(stage1__steps=3, stage2__steps=3), clip, 32, 16, "cpu").start(
        3, 0
    )
    text, untrained = (
        model.prompts.text,
        {name: value.clone() for name, value in model.model.state_dict().items()},
    )
    kept = {name: value.clone() for name, value in text.state_dict().items()}
    model.start = lambda *args: model
    model.fit(people(3, 5), seed=0)
    assert all(torch.equal(value, kept[name]) for name, value in text.state_dict().items())
    assert torch.equal(model.model.head12.norm.bias, torch.zeros(32))
    for name in (
        "encoder.positions",
        "head12.classifier.weight",
        "encoder.vision.encoder.layers.0.self_attn.q_proj.weight",
    ):
        assert not torch.equal(model.model.state_dict()[name], untrained[name])


class Killed(Exception):
    pass


SHORT = {"stage1__steps": 8, "stage2__steps": 7, "checkpoint_every": 3}


@pytest.fixture(scope="module")
def whole_run(clip):
    """A run that nothing stopped."""
    model = create_model("clip-reid", tiny_params(**SHORT), clip, 32, 16, "cpu")
    return model, model.fit(people(6, 6), seed=3)


@pytest.mark.parametrize("stage, step", [("stage1", 4), ("stage1", 8), ("stage2", 5)])
def test_a_killed_run_ends_in_the_same_weights(clip, whole_run, tmp_path, stage, step):
    params, train, (whole, history) = tiny_params(**SHORT), people(6, 6), whole_run

    def kill(at, done, steps):
        if (at, done) == (stage, step):
            raise Killed

    with pytest.raises(Killed):
        create_model("clip-reid", params, clip, 32, 16, "cpu").fit(
            train, seed=3, progress=kill, checkpoints=tmp_path
        )
    resumed, steps = create_model("clip-reid", params, clip, 32, 16, "cpu"), []
    assert (
        resumed.fit(train, seed=3, progress=lambda *at: steps.append(at), checkpoints=tmp_path)
        == history
    )
    assert len(steps) < 15 and not list(tmp_path.glob(".*"))
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
    with pytest.raises(StudyError, match="other data, parameters, seed"):
        create_model("clip-reid", params, clip, 32, 16, "cpu").fit(
            train, seed=4, checkpoints=tmp_path
        )


def test_a_checkpoint_belongs_to_the_weights_and_not_to_their_place(clip, tmp_path):
    train, params = people(4, 5), tiny_params(stage1__steps=2, stage2__steps=2)
    places = tmp_path / "one", tmp_path / "two"
    for place in places:
        shutil.copytree(clip, place)
    work = {"seed": 0, "checkpoints": tmp_path / "work"}
    ClipReIDModel(params, places[0], 32, 16, "cpu").fit(train, **work)
    ClipReIDModel(params, places[1], 32, 16, "cpu").fit(train, **work)  # the same weights
    file = places[1] / "image_encoder/model.safetensors"
    values = {name: value + 1 for name, value in load_file(file).items()}
    save_file(values, file, {"format": "pt"})
    with pytest.raises(StudyError, match="other data, parameters, seed"):
        ClipReIDModel(params, places[1], 32, 16, "cpu").fit(train, **work)


def test_stage2_starts_from_learned_prompts(clip, tmp_path):
    train, params = people(4, 5), tiny_params(stage1__steps=3, stage2__steps=4)
    first = ClipReIDModel(params, clip, 32, 16, "cpu")
    first.fit(train, seed=0, checkpoints=tmp_path)
    steps = []
    second = ClipReIDModel(params, clip, 32, 16, "cpu")
    second.fit(
        train,
        seed=0,
        prompts=tmp_path / PROMPTS_FILE,
        progress=lambda stage, *_: steps.append(stage),
    )
    assert set(steps) == {"stage2"}
    for key, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key])
    with pytest.raises(StudyError, match="no prompts for these 5 identities"):
        second.fit(people(5, 5), seed=0, prompts=tmp_path / PROMPTS_FILE)
    (tmp_path / PROMPTS_FILE).write_bytes(b"broken")
    with pytest.raises(StudyError, match="damaged"):
        second.fit(train, seed=0, prompts=tmp_path / PROMPTS_FILE)


def test_features_of_an_earlier_run_are_looked_up(clip, monkeypatch):
    """Bit for bit what they were; other pixels, weights or precision are computed."""
    monkeypatch.setattr(clip_reid_training, "SEEN", {})
    monkeypatch.setattr(clip_reid_training, "EXTRACT_BATCH", 8)
    train = people(4, 5)

    def features(images, **changes):
        model = ClipReIDModel(tiny_params(**changes), clip, 32, 16, "cpu").start(4, 0, train.camids)
        before = len(clip_reid_training.SEEN)
        return model._clip_features(images), len(clip_reid_training.SEEN) - before

    first, computed = features(train.images)
    assert computed == 3
    again, computed = features(train.images, camera_weight=1.0)  # cameras play no part in stage 1
    assert computed == 0 and np.array_equal(again, first)
    changed = train.images.copy()
    changed[9] = 255 - changed[9]
    other, computed = features(changed)
    assert computed == 1 and np.flatnonzero((other != first).any(axis=1)).tolist() == [9]
    assert features(train.images, precision="bf16")[1] == 3
    monkeypatch.setattr(clip_reid_training, "SEEN_BATCHES", 2)
    features(train.images[:4])
    assert len(clip_reid_training.SEEN) == 2 and np.array_equal(features(train.images)[0], first)


def with_generated(train, each=3):
    """Every third image is generated."""
    flags = np.arange(len(train)) % each == 0
    return ImageSet(train.images, train.pids, train.camids, flags)


def test_generated_images_can_weigh_nothing(clip):
    """With weight 0, what generated images show does not matter to terms of single images."""
    train = with_generated(people(4, 6))
    blank = train.images.copy()
    blank[train.generated] = 0
    histories = []
    still = {
        "stage1__steps": 1,
        "stage1__learning_rate": 1e-12,
        "stage1__warmup_rate": 1e-12,
        "stage1__final_rate": 0.0,
        "stage2__steps": 1,
    }  # the prompts stay
    for pixels in (train.images, blank):
        params = tiny_params(generated__weight=0.0, **still)
        histories.append(
            ClipReIDModel(params, clip, 32, 16, "cpu").fit(
                ImageSet(pixels, train.pids, train.camids, train.generated), seed=0
            )
        )
    assert histories[0]["stage2"]["image_to_text"] == pytest.approx(
        histories[1]["stage2"]["image_to_text"], abs=1e-6
    )
    assert histories[0]["stage1"]["image_to_text"] == pytest.approx(
        histories[1]["stage1"]["image_to_text"], abs=1e-6
    )
    full = ClipReIDModel(tiny_params(**still), clip, 32, 16, "cpu").fit(train, seed=0)
    assert full["stage2"]["image_to_text"] != pytest.approx(
        histories[0]["stage2"]["image_to_text"], abs=1e-6
    )


def test_a_camera_that_only_the_test_has_is_named_before_training(clip):
    images = people(4, 6)
    other = replace(images, camids=images.camids + 1)
    params = tiny_params(camera_weight=1.0, stage1__steps=2, stage2__steps=3)
    with pytest.raises(StudyError, match="is among the test images only"):
        train_and_evaluate(
            images, other, other, params, pretrained=clip, seed=0, progress=pytest.fail
        )


def test_a_model_on_the_cpu_leaves_the_others_their_gpu(monkeypatch):
    """The first state that `accelerate` makes decides for the process: it is the machine's."""
    asked = []

    def state(**options):
        asked.append(options)
        return SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cuda"))

    monkeypatch.setattr(devices, "PartialState", state)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loop.Machine("cpu", "fp32").device.type == "cpu"
    assert [options["cpu"] for options in asked] == [False]


@pytest.mark.parametrize(
    "camera, rows, generated_row", [("inherit", 6, None), ("generated", 7, 6), ("none", 6, -1)]
)
def test_cameras_of_generated_images(clip, tmp_path, camera, rows, generated_row):
    train = with_generated(people(4, 6))
    params = tiny_params(
        camera_weight=3.0, generated__camera=camera, stage1__steps=2, stage2__steps=3
    )
    model = ClipReIDModel(params, clip, 32, 16, "cpu")
    model.fit(train, seed=0)
    assert model.model.encoder.cameras.shape == (rows, 32)
    found = model.camera_rows(train.camids, len(train), train.generated)
    expected = (
        train.camids
        if generated_row is None
        else np.where(train.generated, generated_row, train.camids)
    )
    assert np.array_equal(found, expected)
    tokens = model.model.encoder.camera_tokens(torch.tensor([1, -1, -2]))
    embedding = model.model.encoder.cameras
    torch.testing.assert_close(
        tokens, 3 * torch.stack([embedding[1], torch.zeros(32), embedding[:6].mean(0)])
    )
    features = model.extract(train.images, train.camids)
    assert not np.allclose(features, model.extract(train.images, (train.camids + 1) % 6), atol=1e-3)
    with pytest.raises(StudyError, match="Camera 77"):
        model.extract(train.images[:1], np.array([77]))
    model.save(tmp_path)
    loaded = ClipReIDModel(None, None, 0, 0, "cpu").load(tmp_path)
    assert np.array_equal(loaded.extract(train.images, train.camids), features)
    assert np.array_equal(loaded.extract(train.images), model.extract(train.images))


def test_save_and_load(clip, tmp_path):
    train = people(3, 5)
    model = ClipReIDModel(
        tiny_params(patch_stride=6, stage1__steps=2, stage2__steps=3), clip, 32, 16, "cpu"
    )
    with pytest.raises(StudyError, match="fit or load"):
        model.extract(train.images)
    model.fit(train, seed=0)
    features = model.extract(train.images)
    assert features.shape == (15, 32 + 16) and features.dtype == np.float32
    assert model.extract(train.images[:0]).shape == (0, 48)
    model.save(tmp_path / "saved")
    loaded = ClipReIDModel(None, None, 0, 0, "cpu").load(
        tmp_path / "saved"
    )  # needs no other weights
    assert np.array_equal(loaded.extract(train.images), features)
    with safe_open(tmp_path / "saved/model.safetensors", "pt") as file:
        assert not any("text" in key for key in file.keys())
    (tmp_path / "saved" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(StudyError, match="saved"):
        loaded.load(tmp_path / "saved")
    with pytest.raises(StudyError, match="uint8"):
        model.extract(train.images / 255)


def test_images_of_other_sizes_are_resized(clip):
    model = ClipReIDModel(tiny_params(), clip, 32, 16, "cpu").start()
    large = np.random.default_rng(0).integers(0, 256, (2, 64, 40, 3), dtype=np.uint8)
    small = np.stack(
        [
            np.asarray(Image.fromarray(image).resize((16, 32), Image.Resampling.BILINEAR))
            for image in large
        ]
    )
    assert np.array_equal(model.extract(large), model.extract(small))


def test_missing_weights_and_wrong_sizes_are_named(clip, tmp_path):
    with pytest.raises(StudyError, match="image_encoder"):
        from_pretrained(tmp_path, 32, 16, 3, seed=0)
    with pytest.raises(StudyError, match="No folder .*gone"):
        from_pretrained(tmp_path / "gone", 32, 16, 3, seed=0)
    with pytest.raises(StudyError, match="8-pixel"):
        from_pretrained(clip, 30, 16, 3, seed=0)
    wild = tiny_params(stage2__learning_rate=1e30, stage2__weight_decay=0.0)
    with pytest.raises(StudyError, match=r"reid\.stage2\.learning_rate"):
        ClipReIDModel(wild, clip, 32, 16, "cpu").fit(people(3, 5), seed=0)
    with pytest.raises(StudyError, match="choose one of clip-reid, resnet"):
        create_model("solider", tiny_params(), clip, 32, 16)
    assert list(MODELS) == ["clip-reid", "resnet"]


def test_pk_batches():
    labels = np.repeat(np.arange(10), [1, 2, 9, 4, 5, 6, 7, 8, 3, 4])
    batches = list(PKSampler(labels, 16, 4, 25, seed=3))
    assert len(batches) == 25
    for batch in batches:
        found, counts = np.unique(labels[batch], return_counts=True)
        assert len(found) == 4 and (counts == 4).all()
    seen = np.bincount(
        np.concatenate([np.unique(labels[batch]) for batch in batches]), minlength=10
    )
    assert seen.max() - seen.min() <= 1
    assert set(np.concatenate(batches)) == set(range(len(labels)))  # every image is used
    assert np.array_equal(
        np.concatenate(batches), np.concatenate(list(PKSampler(labels, 16, 4, 25, seed=3)))
    )
    few = list(PKSampler(np.repeat([5, 9], 3), 64, 4, 2, seed=0))
    assert [len(batch) for batch in few] == [64, 64]
    with pytest.raises(StudyError, match="at least two"):
        PKSampler(np.zeros(9, int), 16, 4, 2, seed=0)
    assert [len(batch) for batch in shuffled_batches(64, 64, 3, 0)] == [64, 64, 64]
    assert [len(batch) for batch in shuffled_batches(5, 16, 2, 0)] == [16, 16]


@pytest.mark.parametrize("repeats", [1, 3])
def test_copies_of_an_image_do_not_meet_in_a_batch(repeats):
    """An identity of five photos repeated three times: every batch has four different ones."""
    labels, copies = np.repeat(np.arange(6), 5 * repeats), np.tile(np.arange(30), repeats)
    copies = np.sort(copies)  # copies of one photo lie beside each other
    batches = list(PKSampler(labels, 16, 4, 60, seed=1, copies=copies))
    assert all(len(np.unique(copies[batch])) == 16 for batch in batches)
    dealt = np.bincount(copies[np.concatenate(batches)], minlength=30)
    assert dealt.max() - dealt.min() <= 4  # photos still come in rounds
    # A person of two photos, asked for four images, gets each of them twice.
    few = list(PKSampler(np.repeat([0, 1], 6), 8, 4, 20, seed=1, copies=np.arange(12) // 3))
    assert {len(np.unique(np.arange(12)[batch] // 3)) for batch in few} == {4}
    images = people(2, 3)
    assert ImageSet.copies(images.plus(images)).tolist() == [*images.copies()] * 2
    assert len(np.unique(images.copies())) == 6
    # What generated images show never changes which of them are drawn.
    blank = ImageSet(0 * images.images, images.pids, images.camids, np.arange(6) > 1)
    assert len(np.unique(blank.copies())) == 1 + 4


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.75])
def test_generated_images_are_capped_per_batch(share):
    labels = np.repeat(np.arange(8), 10)
    generated = np.arange(80) % 10 >= 3  # 7 of 10
    batches = list(PKSampler(labels, 16, 4, 40, 0, generated=generated, max_share=share)) + list(
        shuffled_batches(80, 16, 20, 0, generated=generated, max_share=share)
    )
    counts = np.array([generated[batch].sum() for batch in batches])
    assert (counts <= share * 16).all() and counts.max() == int(share * 16)
    assert all(len(batch) == 16 for batch in batches)
    assert set(np.concatenate(batches)[~generated[np.concatenate(batches)]]) == set(
        np.flatnonzero(~generated)
    )
    with pytest.raises(StudyError, match="generated images only"):
        list(PKSampler(labels, 16, 4, 1, 0, generated=labels < 9, max_share=0.5))


def test_augmentation():
    def generator():
        return torch.Generator().manual_seed(4)

    batch = torch.randint(1, 256, (40, 64, 32, 3), dtype=torch.uint8, generator=generator())
    assert torch.equal(
        transforms.augment(batch, generator(), 0.5), transforms.augment(batch, generator(), 0.5)
    )
    flipped = transforms.flip(batch, generator())
    kinds = [
        torch.equal(a, b) or torch.equal(a, b.flip(1)) for a, b in zip(flipped, batch, strict=True)
    ]
    assert all(kinds) and not torch.equal(flipped, batch)
    cropped = transforms.pad_crop(batch, generator())
    padded = torch.nn.functional.pad(batch, (0, 0, 2, 2, 2, 2))
    windows = [
        any(
            torch.equal(cropped[i], padded[i, y : y + 64, x : x + 32])
            for y in range(5)
            for x in range(5)
        )
        for i in range(40)
    ]
    assert all(windows)
    plain = transforms.normalise(batch)
    assert plain.shape == (40, 3, 64, 32) and plain.min() >= -1 and plain.max() <= 1
    torch.testing.assert_close(plain[3, 1], batch[3, :, :, 1] / 127.5 - 1)
    assert torch.equal(transforms.erase(plain, generator(), 0.0), plain)
    erased = (transforms.erase(plain, generator(), 1.0) != plain).any(dim=1)
    for mask in erased:
        rows, columns = mask.any(dim=1).nonzero().squeeze(1), mask.any(dim=0).nonzero().squeeze(1)
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all() and 0.01 < box.numel() / mask.numel() < 0.4


def test_images_are_read_once_and_broken_ones_named(tmp_path):
    for index, size in enumerate([(16, 32), (20, 50)]):
        Image.fromarray(np.full((size[1], size[0], 3), 60 + index, np.uint8)).save(
            tmp_path / f"{index}.png"
        )
    loaded = image_set.read([tmp_path / "0.png", tmp_path / "1.png"], 32, 16)
    assert loaded.shape == (2, 32, 16, 3) and loaded.dtype == np.uint8 and loaded[1].max() == 61
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(StudyError, match=r"bad\.jpg"):
        image_set.read([tmp_path / "bad.jpg"], 32, 16)
    with pytest.raises(StudyError, match=r"gone\.jpg is missing"):
        image_set.read([tmp_path / "gone.jpg"], 32, 16)
    with pytest.raises(StudyError, match="uint8"):
        ImageSet(loaded.astype(float), np.zeros(2), np.zeros(2))
    both = ImageSet(loaded, np.array([1, 2]), np.array([0, 0]))
    joined = both.plus(
        ImageSet(loaded, np.array([1, 2]), np.array([0, 0]), np.array([True, False])).take(
            np.array([0])
        )
    )
    assert len(joined) == 3 and joined.generated.tolist() == [False, False, True]


def test_a_batch_is_shared_by_processes():
    machine = loop.Machine("cpu", "fp32")
    rows = np.arange(24)
    machine.processes = 4
    parts = []
    for machine.index in range(4):
        parts.append(machine.share(rows, 4))
    assert np.array_equal(np.concatenate(parts), rows) and all(len(part) % 4 == 0 for part in parts)
    with pytest.raises(StudyError, match="cannot be shared by 4"):
        machine.share(np.arange(8), 4)
