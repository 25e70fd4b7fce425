"""Model folders as people have them: on the hub, halved, pickled, broken, with other statistics."""

import json
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from pipeline import ROOT
from safetensors.torch import load_file, save_file

from posedive_lib import params, weights
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.augment.painting import Diffusion
from posedive_lib.bench import inputs
from posedive_lib.bench.inputs import check_inputs
from posedive_lib.body.poses import load_poses
from posedive_lib.digests import folder_digest
from posedive_lib.errors import StudyError
from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.sampling import load, upright
from posedive_lib.own_data import bodies

PRETRAINED = ROOT / "data/pretrained"
SD = PRETRAINED / "stable-diffusion"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local cache that holds one commit of each model, and no name of a branch."""

    def store(name, folder):
        place = tmp_path / "hub" / f"models--someone--{name}" / "snapshots" / COMMIT
        place.parent.mkdir(parents=True)
        place.symlink_to(folder)
        return f"someone/{name}@{COMMIT}"

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return store


def test_every_model_is_found_by_its_pinned_hub_id_without_a_network(hub, monkeypatch):
    monkeypatch.chdir(ROOT)
    ids = {
        "paths.datasets": "docs",
        "paths.stable_diffusion": hub("sd", SD).partition("@")[0],
        "paths.phase1": hub("phase1", PRETRAINED / "phase1"),
        "paths.clip": hub("clip", PRETRAINED / "clip"),
        "paths.pose_estimator": hub("vitpose", PRETRAINED / "vitpose"),
        "paths.resnet": hub("resnet", PRETRAINED / "resnet"),
        "generator.vae": hub("vae", SD / "vae"),
        "generator.image_encoder": hub("encoder", SD / "image_encoder"),
        "generator.revision": COMMIT,
    }
    P = params.load(ROOT / "params.yaml", overrides=ids)
    check_inputs(P)
    assert len(weights.load_clip(P.paths.clip)) == 3
    assert len(weights.load_resnet(P.paths.resnet).state_dict()) > 10
    assert weights.published_folders(P.paths.clip)[0].name == COMMIT
    PoseEstimator(P.paths.pose_estimator)
    generator = load(P.paths.phase1, f"{P.paths.stable_diffusion}@{COMMIT}")
    assert folder_digest(generator.stable_diffusion) == folder_digest(SD)
    Encoders.from_stable_diffusion(
        weights.local_folder(P.paths.stable_diffusion, P.generator.revision),
        vae=P.generator.vae,
        image_encoder=P.generator.image_encoder,
    )
    named = params.load(
        ROOT / "params.yaml",
        overrides={key: ids[key] for key in ("paths.stable_diffusion", "generator.revision")},
    )
    key = Diffusion.of(named, PRETRAINED / "phase1").key
    assert COMMIT in key and folder_digest(SD) not in key  # files may come to a commit's folder


@pytest.mark.parametrize("key", ["paths.clip", "paths.phase1", "generator.vae"])
def test_a_hub_id_that_is_nowhere_is_refused_with_the_line_that_fetches_it(hub, monkeypatch, key):
    monkeypatch.chdir(ROOT)
    P = params.load(
        ROOT / "params.yaml", overrides={"paths.datasets": "docs", key: f"someone/none@{COMMIT}"}
    )
    with pytest.raises(StudyError, match=f"{key}: .*hf download someone/none --revision {COMMIT}"):
        check_inputs(P)


def refusals(P) -> list[str]:
    """What each check of the inputs says."""
    said = []
    for check in inputs.input_checks(P, "params.yaml"):
        try:
            check()
        except StudyError as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize(
    "key, place",
    [
        ("paths.body", "data/body/mine.pkl"),
        ("paths.body", "data/body/SMPL_MALE.npz"),
        ("paths.datasets", "data/sets"),
        ("paths.datasets", "data"),
        ("paths.motions", "data/AMASS"),
        ("paths.motions", "data/motions/AMASS"),
        ("paths.stable_diffusion", "data/pretrained/sd15"),
        ("paths.clip", "data/clip-real"),
        ("paths.phase1", "data/mine"),
        ("generator.vae", "data/vae"),
        ("generator.image_encoder", "data/pretrained/encoder"),
        ("bodies.hmr2", "data/hmr2"),
    ],
)
def test_files_of_one_s_own_in_the_folder_that_dvc_sets_back_are_refused(monkeypatch, key, place):
    monkeypatch.chdir(ROOT)
    P = params.load(ROOT / "params.yaml", overrides={"paths.datasets": "docs", key: place})
    said = refusals(P)
    sentence = f"params.yaml: {key} names {place}, but `dvc pull` sets data/ back"
    assert any(text.startswith(sentence) and "move your own files" in text for text in said)


def test_the_bundle_s_own_files_are_no_one_s_own():
    assert all((ROOT / "data" / name).exists() for name in inputs.BUNDLE)
    for name in inputs.BUNDLE:
        inputs._check_own_place(str(ROOT / "data" / name), "paths.any")
    for file in ("mini", "smoke", "paper"):
        for key, value in inputs._named(params.load(ROOT / f"params/{file}.yaml")):
            inputs._check_own_place(str(ROOT / value), key)


@pytest.mark.parametrize("name", ["bodies", "splits"])
@pytest.mark.parametrize("place", ["elsewhere", "/scratch/own", "builds/own", "build/../own"])
def test_what_dvc_cannot_keep_is_refused_before_the_work(
    monkeypatch, capsys, tmp_path, name, place
):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    old = f"  {name}: build/{name}"
    assert text.count(old) == 1
    (tmp_path / "params.yaml").write_text(text.replace(old, f"  {name}: {place}"))
    monkeypatch.setattr(bodies, "make", lambda P: pytest.fail("too late"))
    sentence = f"params.yaml: paths.{name} is {place}, but the pipeline keeps what it writes there"
    assert bodies.main([]) == 2 and capsys.readouterr().err.startswith(sentence)
    said = refusals(params.load(tmp_path / "params.yaml"))
    assert any(text.startswith(sentence) for text in said)


def test_a_saved_generator_takes_its_frozen_parts_at_the_revision_it_was_trained_with(
    hub, tmp_path
):
    name = hub("sd", SD).partition("@")[0]
    folder = tmp_path / "generator"
    shutil.copytree(PRETRAINED / "phase1", folder)
    settings = json.loads((folder / "posedive.json").read_text())
    settings["generator"]["revision"] = COMMIT
    (folder / "posedive.json").write_text(json.dumps(settings))
    assert load(folder, name).stable_diffusion.name == COMMIT


@pytest.fixture
def vae(tmp_path):
    """A Stable Diffusion folder of one's own; its VAE's folder and file."""
    shutil.copytree(SD, tmp_path / "sd")
    return tmp_path / "sd/vae", tmp_path / "sd/vae/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    "name", ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"]
)
def test_a_variant_is_named_and_the_given_line_converts_it(vae, name):
    folder, file = vae
    half = {key: value.half() for key, value in load_file(file).items()}
    file.unlink()
    (torch.save if name.endswith("bin") else save_file)(half, folder / name)
    with pytest.raises(StudyError) as caught:
        weights.load_part(AutoencoderKL, folder.parent, "vae")
    assert name in str(caught.value)
    assert f"`python -m posedive_lib.weights {folder}`" in str(caught.value)
    assert weights.main([str(folder)]) == 0
    loaded = weights.load_part(AutoencoderKL, folder.parent, "vae").state_dict()
    assert all(torch.equal(loaded[key], value.float()) for key, value in half.items())


def test_one_piece_of_several_is_not_taken_for_the_whole(vae):
    folder, file = vae
    tensors = load_file(file)
    file.unlink()
    for number, key in enumerate(sorted(tensors)[:2], start=1):
        piece = folder / f"diffusion_pytorch_model-{number:05d}-of-00002.bin"
        torch.save({key: tensors[key]}, piece)
    with pytest.raises(StudyError, match="has its weights in pieces"):
        weights.convert(folder)
    assert not file.exists()


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
        "diffusion_pytorch_model-00001-of-00001.fp16.safetensors",
        "diffusion_pytorch_model-00001-of-00001.bin",
    ],
)
def test_pieces_that_are_passed_by_are_named_and_no_line_that_fails_is_given(vae, name):
    folder, file = vae
    tensors = load_file(file)
    file.unlink()
    (torch.save if name.endswith("bin") else save_file)(tensors, folder / name)
    for work in (
        lambda: weights.load_part(AutoencoderKL, folder.parent, "vae"),
        lambda: weights.convert(folder),
    ):
        with pytest.raises(StudyError, match=f"in pieces .{name}.*: fetch them as one file") as why:
            work()
        assert "python -m" not in str(why.value)
    assert not file.exists()
    # A whole file beside them is converted.
    save_file(tensors, folder / "diffusion_pytorch_model.fp16.safetensors")
    assert weights.main([str(folder)]) == 0 and file.exists()


@pytest.mark.parametrize("kept", [torch.float16, torch.float32])
def test_a_file_that_is_read_as_it_is_is_not_converted(vae, kept, capsys):
    folder, file = vae
    tensors = {name: value.to(kept) for name, value in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt", "note": "mine"})
    save_file(tensors, folder / "diffusion_pytorch_model.fp16.safetensors")
    torch.save(tensors, folder / "diffusion_pytorch_model.bin")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert weights.main([str(folder)]) == 2
    assert f"{file} is read as it is, in any precision" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    weights.load_part(AutoencoderKL, folder.parent, "vae")


def test_half_precision_loads_as_float32(vae, tmp_path):
    folder, file = vae
    clip = tmp_path / "clip"
    shutil.copytree(PRETRAINED / "clip", clip)
    for path in (file, clip / "model.safetensors"):
        half = {
            key: value.half() if value.is_floating_point() else value
            for key, value in load_file(path).items()
        }
        save_file(half, path, metadata={"format": "pt"})
    models = [weights.load_part(AutoencoderKL, folder.parent, "vae"), *weights.load_clip(clip)[:2]]
    for model in models:
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors"])
@pytest.mark.parametrize(
    "content, said", [(POINTER, "git lfs pull"), ("", "again"), ("{bad", "again")]
)
def test_pointers_and_broken_files_are_refused(vae, name, content, said):
    folder, _ = vae
    (folder / name).write_text(content)
    with pytest.raises(StudyError, match=said) as caught:
        weights.load_part(AutoencoderKL, folder.parent, "vae")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_broken_tokenizer_is_refused(tmp_path):
    shutil.copytree(PRETRAINED / "clip", tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(StudyError, match="tokenizer in .* could not be loaded"):
        weights.load_clip(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [{"shift_factor": 0.5}, {"latents_mean": 0.5, "latents_std": 2.0}],
    ids=["shift", "statistics"],
)
def test_the_vaes_statistics_are_used_in_both_directions(vae, settings):
    folder, _ = vae
    image = torch.randint(0, 256, (1, 128, 64, 3), dtype=torch.uint8)
    plain = Encoders.from_stable_diffusion(folder.parent)
    config = json.loads((folder / "config.json").read_text())
    per_channel = {
        key: [value] * config["latent_channels"]
        for key, value in settings.items()
        if key != "shift_factor"
    }
    written = {**config, **settings, **per_channel}
    (folder / "config.json").write_text(json.dumps(written))
    other = Encoders.from_stable_diffusion(folder.parent)
    factor = config["scaling_factor"]
    raw = plain.latents(image) / factor
    expected = (raw - 0.5) / settings.get("latents_std", 1.0) * factor
    torch.testing.assert_close(other.latents(image), expected)
    decoded = other.images(other.latents(image)).int() - plain.images(plain.latents(image)).int()
    assert decoded.abs().max() <= 1


@pytest.fixture(scope="module")
def draw():
    generator = load(PRETRAINED / "phase1", SD)
    view = dict(azimuth=0, elevation=10, body=str(ROOT / "data/body/SMPL_NEUTRAL.npz"), steps=1)
    pose = load_poses(ROOT / "data/motions").select([0])
    return lambda photo: generator.draw(photo, pose, **view)


def test_a_photo_that_says_turn_me_is_drawn_upright(draw, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 128, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "phone.png", exif=exif)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    upright.info.clear()
    drawn = draw(Image.open(tmp_path / "phone.png"))
    assert drawn.size == (64, 128)
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(draw(upright)))


def test_a_photo_of_any_mode_is_drawn_as_viewers_show_it():
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (8, 4, 4), dtype=np.uint8)
    pixels[..., 3] = np.where(rng.random((8, 4)) < 0.5, 0, 255)
    photo = Image.fromarray(pixels)  # RGBA, with colours below its transparent pixels
    seen = np.where(pixels[..., 3:] == 0, 255, pixels[..., :3])
    np.testing.assert_array_equal(np.asarray(upright(photo)), seen)
    for mode in ("1", "L", "LA", "P", "CMYK", "YCbCr", "RGBX", "RGB"):
        assert upright(photo.convert("RGB").convert(mode)).mode == "RGB"
    assert photo.mode == "RGBA"


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_a_photo_that_would_be_clipped_is_refused_with_a_mend_that_helps(mode):
    with pytest.raises(StudyError, match=f"photo is of mode {mode}: give one with 8 bits per ch"):
        upright(Image.new(mode, (64, 128)))
    with pytest.raises(StudyError, match="must be an image of PIL, not ndarray: open it"):
        upright(np.zeros((128, 64, 3), np.uint8))


def test_a_truncated_photo_and_an_odd_size_are_refused(draw, tmp_path):
    path = tmp_path / "cut.jpg"
    pixels = np.random.default_rng(0).integers(0, 255, (128, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(StudyError, match="cut.jpg is not a readable image .*: give a whole copy"):
        draw(Image.open(path))
    photo = Image.fromarray(pixels).resize((61, 130))
    with pytest.raises(StudyError, match=r"use photo.resize\(\(64, 128\)\)") as caught:
        draw(photo)
    assert "image.height" not in str(caught.value)
    assert draw(photo.resize((64, 128))).size == (64, 128)
