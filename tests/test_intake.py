"""Files from outside: one place reads them, and no broken one does more than say what is wrong."""

import ast
import io
import json
import math
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import broken
import numpy as np
import pytest
import torch
import trees
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline import ROOT
from reid_parts import tiny_params
from transformers import CLIPVisionConfig

from posedive_lib import datasets, params, weights
from posedive_lib.augment.confidence import PoseEstimator
from posedive_lib.body.poses import load_poses
from posedive_lib.body.smpl_file import read_smpl
from posedive_lib.body.table import BodyTable
from posedive_lib.checkpoints import load_checkpoint
from posedive_lib.datasets.images import inspect_one
from posedive_lib.errors import StudyError
from posedive_lib.generator import sampling
from posedive_lib.generator.clip import ClipImageEncoder
from posedive_lib.generator.encoders import Encoders
from posedive_lib.generator.noise_schedule import load_scheduler
from posedive_lib.intake.arrays import read_npz
from posedive_lib.intake.files import load_json
from posedive_lib.intake.images import open_rgb
from posedive_lib.intake.settings import read_yaml
from posedive_lib.intake.tables import read_table
from posedive_lib.intake.tensors import load_tensors
from posedive_lib.own_data.hmr2 import export_hmr2, read_hmr2
from posedive_lib.reid.clip_reid_training import ClipReIDModel
from posedive_lib.reid.models import load_trained

SECONDS = 10  # for one file, on a busy machine; it takes a hundredth of one
PRETRAINED = ROOT / "data/pretrained"

# ---- Who reads -----------------------------------------------------------------------------------

CALLS = {  # what opens or parses a file, by the name that it has where it comes from
    *("open", "io.open", "json.load", "json.loads", "csv.reader", "csv.DictReader"),
    *(f"numpy.{name}" for name in ("load", "loadtxt", "genfromtxt", "fromfile", "memmap")),
    *(f"pickle.{name}" for name in ("load", "loads", "Unpickler", "_Unpickler")),
    *("yaml.load", "yaml.safe_load", "h5py.File", "zipfile.ZipFile", "tarfile.open", "torch.load"),
    *("safetensors.safe_open", "safetensors.torch.load_file", "safetensors.numpy.load_file"),
    *("PIL.Image.open", "scipy.io.loadmat", "nbformat.read", "joblib.load", "marshal.load"),
}
METHODS = {"read_text", "read_bytes", "open", "imread", "from_pretrained"}  # of any object
WRITES = {"w", "wb", "x", "xb", "a", "ab"}

OURS = "the study's own table, figure or list; only the run itself writes it"
SOURCE = "a file of this repository, which git keeps"
WORK = "what this run has made; its key is in the file's name"
TEXT = "a text in memory"
ALLOWED = {
    ("augment/candidates.py", "pandas.read_csv"): "its own earlier manifest; a broken one is none",
    ("augment/shards.py", "pandas.read_csv"): "scores of a shard; a broken file counts as unmade",
    ("bench/code.py", "nbformat.read"): SOURCE,
    ("bench/code.py", "read_text"): SOURCE,
    ("bench/costs.py", "yaml.safe_load"): SOURCE,
    ("bench/costs.py", "read_text"): SOURCE,
    ("bench/costs.py", "pandas.read_csv"): OURS,
    ("bench/figures.py", "PIL.Image.open"): "a figure just drawn, in memory",
    ("bench/pipeline.py", "yaml.safe_load"): SOURCE,
    ("bench/pipeline.py", "read_text"): SOURCE,
    ("bench/pages.py", "pandas.read_csv"): OURS,
    ("bench/pages.py", "read_text"): OURS,
    ("bench/plan.py", "yaml.safe_load"): SOURCE,
    ("bench/plan.py", "read_text"): SOURCE,
    ("bench/plan.py", "pandas.read_csv"): OURS,
    ("bench/preflight.py", "read_text"): SOURCE,
    ("bench/rates.py", "json.loads"): WORK,
    ("bench/rates.py", "read_text"): WORK,
    ("bench/runs.py", "json.loads"): TEXT,
    ("bench/site.py", "read_bytes"): "files to copy, and pictures to compare; nothing is parsed",
    ("bench/site.py", "read_text"): SOURCE,
    ("bench/tables.py", "pandas.read_csv"): OURS,
    ("bench/texts.py", "yaml.safe_load"): SOURCE,
    ("bench/texts.py", "read_text"): SOURCE,
    ("datasets/archives.py", "tarfile.open"): "an archive just written, for the places in it",
    ("cluster.py", "pickle.loads"): "a piece that this study sent, by a scheduler that is trusted",
    ("cluster.py", "read_text"): WORK,
    ("digests.py", "open"): "bytes for a digest; nothing is parsed",
    ("digests.py", "read_text"): SOURCE,
    ("errors.py", "open"): "the first bytes, to know a git-lfs pointer",
    ("generator/loss_log.py", "read_text"): WORK,
    ("generator/saved.py", "json.loads"): TEXT,
    ("generator/training_pictures.py", "read_text"): WORK,
    ("augment/card.py", "read_text"): SOURCE,
    ("own_data/hmr2.py", "json.loads"): TEXT,
    ("places.py", "open"): "the first line, to know a list of our own",
    ("own_data/train.py", "read_text"): WORK,
    ("params/profile.py", "read_bytes"): SOURCE,
    ("study/ablation.py", "numpy.load"): WORK,
    ("study/ablation.py", "pandas.read_csv"): "the mini world's own list of people",
    ("study/candidate_files.py", "pandas.read_csv"): OURS,
    ("study/choices.py", "yaml.safe_load"): SOURCE,
    ("study/choices.py", "read_text"): SOURCE,
    ("study/claims.py", "yaml.safe_load"): SOURCE,
    ("study/claims.py", "read_text"): SOURCE,
    ("study/collect.py", "pandas.read_csv"): OURS,
    ("study/evidence.py", "pandas.read_csv"): OURS,
    ("study/graded_generators.py", "numpy.load"): WORK,
    ("study/mini_world.py", "pandas.read_csv"): "the mini world's own list of people",
    ("study/person_judge.py", "numpy.load"): WORK,
    ("study/reid_work.py", "numpy.load"): WORK,
    ("study/replication.py", "json.loads"): "a copy of what was read before",
    ("study/replication.py", "pandas.read_csv"): WORK,
    ("study/replication.py", "read_bytes"): "bytes for a digest; nothing is parsed",
    ("study/sentences.py", "pandas.read_csv"): OURS,
    ("study/summary.py", "pandas.read_csv"): OURS,
    ("study/summary.py", "read_text"): SOURCE,
    ("weights.py", "from_pretrained"): "the models' own library; failures become one sentence",
}


def names_of(tree: ast.AST) -> dict[str, str]:
    """Name in a module → what it stands for, by the module's imports."""
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                known[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return known


def reads(source: str) -> set[str]:
    """What in `source` opens or parses a file."""
    tree = ast.parse(source)
    known, found = names_of(tree), set()

    def full(node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return known.get(node.id, node.id)
        return f"{full(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""

    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = full(node.func)
        if name.startswith("posedive_lib."):  # our own, which is looked at where it stands
            continue
        last = name.rpartition(".")[2]
        if last == "open" and name != "PIL.Image.open":
            mode = node.args[1 if name == "open" else 0 :][:1]  # a method has no path
            if isinstance(mode[0] if mode else None, ast.Constant) and mode[0].value in WRITES:
                continue
        if name in CALLS or name.startswith("pandas.read_"):
            found.add(name)
        elif isinstance(node.func, ast.Attribute) and last in METHODS:
            found.add(last)
    return found


def test_only_the_intake_reads_what_comes_from_outside():
    library = ROOT / "posedive_lib"
    found = {
        (file.relative_to(library).as_posix(), name)
        for file in library.rglob("*.py")
        if file.parent.name != "intake"
        for name in reads(file.read_text(encoding="utf-8"))
    }
    assert not found - ALLOWED.keys(), "read it with posedive_lib.intake"
    assert not ALLOWED.keys() - found, "allowed, though nothing does it any more"


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load('a')",
        "from PIL import Image\nImage.open('a')",
        "from json import loads\nloads('1')",
        "import pandas as pd\npd.read_parquet('a')",
        "open('a')",
        "open('a', 'rb')",
        "from pathlib import Path\nPath('a').read_text()",
        "def f(path):\n    with path.open() as file: pass",
        "import torch\ntorch.load('a')",
    ],
)
def test_a_reader_is_found(source):
    assert reads(source)


# ---- What they do with broken files --------------------------------------------------------------


class Case(NamedTuple):
    """A reader, the file that it reads, what is in the good one, and broken contents.

    may_read: names of broken contents that may be read.
    """

    read: Callable[[], object]
    path: Path
    good: bytes
    inputs: broken.Inputs
    may_read: tuple[str, ...] = ()


def smpl() -> dict[str, np.ndarray]:
    """A body of 30 vertices."""
    rng = np.random.default_rng(1)
    tree = np.stack([np.r_[0, np.arange(23)], np.arange(24)])
    return {
        "v_template": rng.normal(0, 0.3, (30, 3)),
        "f": rng.integers(0, 30, (20, 3)),
        "weights": rng.dirichlet(np.ones(24), 30),
        "shapedirs": rng.normal(0, 1, (30, 3, 10)),
        "posedirs": rng.normal(0, 1, (30, 3, 207)),
        "J_regressor": rng.dirichlet(np.ones(30), 24),
        "kintree_table": tree,
    }


def table(rows: int = 3) -> BodyTable:
    rng = np.random.default_rng(2)
    return BodyTable(
        path=np.array([f"a{row}.jpg" for row in range(rows)]),
        global_orient=rng.normal(0, 1, (rows, 3)),
        body_pose=rng.normal(0, 0.2, (rows, 69)),
        betas=rng.normal(0, 1, (rows, 10)),
        cam_t=np.column_stack([np.zeros((rows, 2)), np.full(rows, 6.0)]),
        focal=np.full(rows, 320.0),
        keypoints=rng.uniform(0, 64, (rows, 17, 2)),
        visible=np.full((rows, 17), 2, np.int8),
    )


def smpl_npz(folder):
    path = folder / "body.npz"
    inputs = broken.broken_npz(smpl(), "weights") | {"a bomb": broken.small_bomb("weights")}
    return Case(lambda: read_smpl(path), path, broken.npz(smpl()), inputs)


def smpl_pickle(folder):
    path = folder / "body.pkl"
    good = broken.pickle.dumps(smpl(), 2)
    return Case(lambda: read_smpl(path), path, good, broken.broken_pickles(smpl(), "weights"))


def motions(folder):
    poses = np.random.default_rng(4).normal(0, 0.1, (8, 156))
    poses[:, :3] = np.pi / 2, 0, 0  # AMASS's z points up
    good = {
        "poses": poses,
        "trans": np.zeros((8, 3)),
        "betas": np.zeros(16),
        "mocap_framerate": np.float64(60),
    }
    path = folder / "motions" / "walk.npz"
    inputs = broken.broken_npz(good, "poses")
    return Case(lambda: load_poses(path.parent), path, broken.npz(good), inputs, ("a_row_less",))


def bodies(folder):
    path, good = folder / "smpl.npz", vars(table())
    inputs = broken.broken_npz(good, "body_pose")
    twice = {"path": np.array(["a.jpg", "a.jpg", "b.jpg"])}
    inputs["an image twice"] = broken.npz(good | twice)
    return Case(lambda: BodyTable.load(path), path, broken.npz(good), inputs)


def hmr2(folder, suffix):
    path = folder / f"hmr2{suffix}"
    columns = export_hmr2(table(), np.array([64, 128]))
    if suffix == ".npz":
        good = broken.npz(columns)
        inputs = broken.broken_npz(columns, "betas")
    elif suffix == ".json":
        plain = {name: column.tolist() for name, column in columns.items()}
        good = json.dumps(plain).encode()
        inputs = broken.broken_json(plain)
        inputs["text_for_numbers"] = json.dumps(plain | {"betas": [["1"] * 10] * 3}).encode()
    else:
        names = {"path": json.dumps(columns.pop("path").tolist())}
        good = broken.save_tensors(columns, names)
        inputs = broken.broken_tensors(columns, names)
    return Case(lambda: read_hmr2(path), path, good, inputs)


def images(folder):
    path, photos = folder / "photo.jpg", broken.broken_images()
    good = trees.paint(folder / "good.png").read_bytes()
    return Case(lambda: open_rgb(path), path, good, photos)


def images_csv(folder):
    trees.folder(folder)
    path = folder / "images.csv"
    inputs = broken.broken_csv(path.read_text())
    may = ("pid_in_other_digits",)  # which are numbers, too
    return Case(lambda: datasets.load("folder", folder), path, path.read_bytes(), inputs, may)


def msmt17_list(folder, name):
    root = trees.msmt17(folder / "MSMT17_V1")
    path = root / f"list_{name}.txt"
    inputs = broken.broken_list(path.read_text())
    may = ("head_lost",)  # what is left are whole lines
    return Case(lambda: datasets.load("msmt17", root), path, path.read_bytes(), inputs, may)


def cuhk03(folder, file):
    trees.cuhk03_mat(folder)
    path = folder / file

    def read():
        shutil.rmtree(folder / "images_labeled", ignore_errors=True)
        return datasets.load("cuhk03-labeled", folder)

    good = path.read_bytes()
    return Case(read, path, good, broken.damage(good))


def parameters(folder):
    path = folder / "params.yaml"
    good = (ROOT / "params/smoke.yaml").read_text()
    return Case(lambda: params.load(path), path, good.encode(), broken.broken_yaml(good))


def checkpoint(folder):
    path = folder / "state.safetensors"
    tensors = {"a.weight": np.ones((4, 3), np.float32), "b": np.zeros(5, np.float32)}
    about = {"about": json.dumps({"key": "k"})}
    inputs = broken.broken_tensors(tensors, about)
    inputs["about_is_a_list"] = broken.save_tensors(tensors, {"about": "[1]"})
    good = broken.save_tensors(tensors, about)
    return Case(lambda: load_checkpoint(path, "k"), path, good, inputs)


def pickled_weights(folder):
    path = folder / "model" / "pytorch_model.bin"
    inputs = broken.broken_pickles({"a": np.ones((4, 3), np.float32)}, "a")
    stream = io.BytesIO()
    torch.save({"a": torch.ones(4, 3)}, stream)

    def read():
        (path.parent / "model.safetensors").unlink(missing_ok=True)
        return weights.convert(path.parent)

    return Case(read, path, stream.getvalue(), inputs)


def model(folder, name, file, load, *may_read):
    shutil.copytree(PRETRAINED / name, folder / name)
    (folder / "stable-diffusion").symlink_to(PRETRAINED / "stable-diffusion")
    path = folder / name / file
    good = path.read_bytes()
    inputs = broken.damage(good)
    if name == "phase1" and file.endswith(".safetensors"):  # which loads after all the rest
        inputs = {key: inputs[key] for key in ("empty", "cut_at_98", "git_lfs_pointer")}
    if file.endswith(".json"):
        content = json.loads(good)
        inputs |= broken.broken_json(content)
        inputs.pop("page_of_an_error")
        inputs |= wrong_values(content)
    return Case(lambda: load(folder / name), path, good, inputs, may_read)


def wrong_values(content: dict) -> broken.Inputs:
    """Settings that are of another kind than what they should be."""
    known = {
        "image_mean": (-1, "x"),
        "image_std": ([0.5], [0, 0, 0], [math.nan] * 3),
        "backbone_config": (-1, "x"),
        "model_type": (None, []),
        "generator": (None, [], "x"),
        "stable_diffusion": (None, "/nowhere", "."),
    }
    found = {
        f"{name}_is_{value!r}": json.dumps(content | {name: value}).encode()
        for name, values in known.items()
        if name in content
        for value in values
    }
    inner = {
        "conditions": (None, -1),
        "vae": (-1, []),
        "image_encoder": (-1, {}),
        "guider_widths": (None, {"depth": None}),
        "guider_channels": (None, "x"),
        "sampling": (None, {}),
    }
    for name, values in inner.items() if "generator" in content else ():
        for value in values:
            changed = content | {"generator": content["generator"] | {name: value}}
            found[f"generator.{name}_is_{value!r}"] = json.dumps(changed).encode()
    return found


def frozen(folder, part, read, values):
    """Settings of a part of Stable Diffusion. values: name → what it may not be, with the rest."""
    for name in ("vae", "image_encoder", "scheduler"):
        shutil.copytree(PRETRAINED / "stable-diffusion" / name, folder / "sd" / name)
    path = folder / "sd" / part
    content = json.loads(path.read_text())
    inputs = {
        f"{name}_is_{value!r}"[:60]: json.dumps(content | {name: value}).encode()
        for name, wrong in values.items()
        for value in wrong
    }
    good = json.dumps(content).encode()
    return Case(lambda: read(folder / "sd"), path, good, broken.broken_json(content) | inputs)


NO_NUMBERS = ("x", "0.5", True, [], {}, math.nan, math.inf, 1e300, 10**400)
NO_TRIPLES = (0.5, [0.5], [0.5] * 4, "0.5", ["0.5"] * 3, [math.nan] * 3, {"r": 0.5}, [[0.5]] * 3)


def vae_settings(folder):
    channels = [0.5] * 16
    values = {
        "scaling_factor": (None, 0, -1, *NO_NUMBERS),
        "shift_factor": NO_NUMBERS,
        "latents_mean": (0.5, [], channels[1:], "x" * 16, [math.nan, *channels[1:]]),
        "latents_std": (0.5, [], channels[1:], [0.0, *channels[1:]], [-1, *channels[1:]]),
        "latent_channels": (3, "x"),
        "in_channels": (1, 4, None),
    }
    return frozen(folder, "vae/config.json", Encoders.load, values)


def schedule(folder):
    values = {
        "beta_start": (None, "x", -1, math.nan, []),
        "beta_end": (None, "x", -1, 5.0, math.nan, []),
        "beta_schedule": (None, "nope", [], 1),
        "num_train_timesteps": (None, 0, -5, "1000", 10.5, []),
        "trained_betas": ([0.1, 0.2], "x", [], [2.0] * 1000, [-0.1] * 1000, [math.nan] * 1000),
    }
    ways = [("v_prediction", True), ("epsilon", False)]

    def read(sd):
        for prediction, zero_snr in ways:
            chosen = SimpleNamespace(prediction_type=prediction, zero_snr=zero_snr)
            for kind in ("DDIMScheduler", "DDPMScheduler"):
                load_scheduler(sd, chosen, kind)

    return frozen(folder, "scheduler/scheduler_config.json", read, values)


def clip_settings(folder):
    sizes = ("x", -16, 1.5, True, [128, 64], {"longest_edge": 64}, {"height": 128}, {"height": "x"})
    values = {
        "size": sizes,
        "image_mean": NO_TRIPLES,
        "image_std": (*NO_TRIPLES, [0, 0, 0], [1, 1, -1]),
    }
    case = frozen(
        folder,
        "image_encoder/preprocessor_config.json",
        ClipImageEncoder.from_stable_diffusion,
        values,
    )
    return case._replace(may_read=("no_keys",))  # then all are CLIP's own


def reid_settings(folder):
    """What the header of a Re-ID model says of it."""
    path = folder / "model.safetensors"
    model = ClipReIDModel(tiny_params(), None, 32, 16, "cpu")
    sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, projection_dim=8)
    vision = CLIPVisionConfig(**sizes, num_attention_heads=2, image_size=32, patch_size=8)
    cameras = {"cameras": [0, 2], "camera_rows": 2, "camera_weight": 1.0}
    plain = {"vision": vision.to_dict(), "identities": 3, "patch_stride": None}
    model.model = model.rebuild(plain | cameras)
    model.save(folder)
    good = path.read_bytes()
    tensors, about = load_tensors(path)
    values = {
        "model": (None, ["a"], {}, 5, "nope"),
        "height": (None, 0, -1, True, 32.5, "x", 64),
        "precision": ("int8", ["fp32"], 5),
        "vision": (None, [], "x", plain["vision"] | {"hidden_size": "x"}),
        "cameras": (None, 2, "02", [2, 0], [0, 0], ["a", "b"]),
        "camera_rows": (None, "x", 3),
        "camera_weight": (None, "x", True, math.nan),
        "identities": (None, "x", -1, 4),
        "patch_stride": ("x", -1, 99),
    }
    inputs = {}
    for name, wrong in values.items():
        for value in wrong:
            weights.save_tensors(tensors, path, about | {name: value})
            inputs[f"{name}_is_{value!r}"[:60]] = path.read_bytes()
        without = {key: kept for key, kept in about.items() if key != name}
        weights.save_tensors(tensors, path, without)
        inputs[f"no_{name}"] = path.read_bytes()
    del inputs["no_precision"]  # which is no property of the model
    return Case(lambda: load_trained(folder, "cpu"), path, good, inputs)


CASES: dict[str, Callable[[Path], Case]] = {
    "SMPL .npz": smpl_npz,
    "SMPL .pkl": smpl_pickle,
    "motions": motions,
    "table of bodies": bodies,
    "HMR2 .npz": lambda folder: hmr2(folder, ".npz"),
    "HMR2 .json": lambda folder: hmr2(folder, ".json"),
    "HMR2 .safetensors": lambda folder: hmr2(folder, ".safetensors"),
    "images": images,
    "images.csv": images_csv,
    "list_train.txt": lambda folder: msmt17_list(folder, "train"),
    "list_query.txt": lambda folder: msmt17_list(folder, "query"),
    "cuhk-03.mat": lambda folder: cuhk03(folder, "cuhk03_release/cuhk-03.mat"),
    "CUHK03's protocol": lambda f: cuhk03(f, "cuhk03_new_protocol_config_labeled.mat"),
    "params.yaml": parameters,
    "checkpoint": checkpoint,
    "pytorch_model.bin": pickled_weights,
    "pose estimator": lambda f: model(f, "vitpose", "config.json", PoseEstimator),
    "pose estimator's means": lambda f: model(
        f, "vitpose", "preprocessor_config.json", PoseEstimator, "no_keys"
    ),
    "pose estimator's weights": lambda f: model(f, "vitpose", "model.safetensors", PoseEstimator),
    "generator": lambda f: model(f, "phase1", "posedive.json", sampling.load),
    "generator's guiders": lambda f: model(f, "phase1", "guiders.safetensors", sampling.load),
    "CLIP": lambda f: model(f, "clip", "config.json", weights.load_clip, "model_type_is_None"),
    "VAE's settings": vae_settings,
    "noise schedule": schedule,
    "CLIP's preprocessor": clip_settings,
    "Re-ID model's settings": reid_settings,
    "CLIP's weights": lambda f: model(f, "clip", "model.safetensors", weights.load_clip),
}


@contextmanager
def limit(what):
    """AssertionError where something takes too long."""

    def ring(signum, frame):
        raise AssertionError(f"{what} hangs")

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def is_refused(read, what) -> bool:
    """Whether a StudyError of one sentence is raised; any other error fails."""
    try:
        with limit(what):
            read()
        return False
    except StudyError as error:
        text = str(error)
        assert "\n" not in text and 4 <= len(text.split()) and len(text) < 2000, (what, text[:300])
        return True
    except Exception as error:
        pytest.fail(f"{what}: {type(error).__name__}: {str(error)[:300]}")


@pytest.mark.parametrize("reader", CASES)
def test_broken_files_are_refused_in_one_sentence(reader, tmp_path):
    case = CASES[reader](tmp_path)
    case.path.parent.mkdir(parents=True, exist_ok=True)
    case.path.write_bytes(case.good)
    assert not is_refused(case.read, f"{reader}: the good file")
    taken = []
    for name, content in case.inputs.items():
        case.path.write_bytes(content)
        if not is_refused(case.read, f"{reader}: {name}") and name not in case.may_read:
            taken.append(name)
    assert not taken, f"{reader} takes {taken}"


def test_there_are_more_than_four_hundred_distinct_broken_files(tmp_path):
    contents = set()
    for number, (reader, make) in enumerate(CASES.items()):
        if reader.startswith(("CLIP", "generator", "pose", "VAE")):  # their copies take longest
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        case = make(folder)
        contents |= {content for name, content in case.inputs.items() if name not in case.may_read}
    assert len(contents) > 400


def test_preflight_counts_broken_images_and_goes_on(tmp_path):
    path = tmp_path / "photo.jpg"
    for name, content in broken.broken_images().items():
        path.write_bytes(content)
        with limit(name):
            found = inspect_one(path)
        assert bool(found.error) != (found.width * found.height == 16 * 32), name


@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg",
        "0002.jpg",
        "_c1s1_000451_03.jpg",
        "0002_c0s1_000451_03.jpg",
        "0002_cs1_000451_03.jpg",
        "-2_c1s1_000451_03.jpg",
        f"{'9' * 30}_c1s1_000451_03.jpg",
        f"0002_c{'9' * 30}s1_000451_03.jpg",
        "\uff10\uff10\uff10\uff12_c1s1_000451_03.jpg",  # digits of another script
        "0002 c1s1.jpg",
        "0002_C1s1_000451_03.jpg",
    ],
)
def test_file_names_without_identity_and_camera_are_named(name, tmp_path):
    trees.market(tmp_path)
    trees.paint(tmp_path / "bounding_box_train" / name)
    with pytest.raises(StudyError, match="Cannot read identity and camera from"):
        datasets.load("market1501", tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    for name, read in (
        ("photo.jpg", open_rgb),
        ("table.csv", read_table),
        ("params.yaml", params.load),
    ):
        os.mkfifo(tmp_path / name)
        with limit(name), pytest.raises(StudyError, match="pipe or a device"):
            read(tmp_path / name)


def test_an_archive_that_claims_3_gibibytes_is_not_unpacked(tmp_path):
    (tmp_path / "a.npz").write_bytes(broken.small_bomb("a"))
    with pytest.raises(StudyError, match="unpacks to 3.0 GiB"):
        read_npz(tmp_path / "a.npz", what="an array")


def test_an_array_that_claims_fewer_rows_than_it_holds_is_refused(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.arange(3.0))
    (tmp_path / "a.npz").write_bytes(broken.members(("a.npy", stream.getvalue() + bytes(8))))
    with pytest.raises(StudyError, match="'a' holds more than it claims"):
        read_npz(tmp_path / "a.npz", what="an array")


# ---- Any bytes -----------------------------------------------------------------------------------


def words(path):
    return path, "cannot be read", "fetch it again"


READERS = {
    "arrays": lambda path: read_npz(path, what="an array"),
    "json": lambda path: load_json(*words(path)),
    "yaml": lambda path: read_yaml(path, "copy it again"),
    "csv": read_table,
    "tensors": load_tensors,
    "images": open_rgb,
    "pickle": lambda path: read_smpl(path),
}
SEEDS = {
    "arrays": broken.npz({"a": np.arange(6.0), "path": np.array(["b", "c"])}),
    "json": b'{"a": [1, 2.5, null, true, "text"], "b": {}}',
    "yaml": b"a: 1\nb:\n  c: [1, 2]\n  d: text\n",
    "csv": b'path,pid\na.jpg,1\n"b,c.jpg",2\n',
    "tensors": broken.save_tensors({"a": np.ones((2, 3), np.float32)}, {"about": "{}"}),
    "images": broken.png(2, 2, (b"IDAT", broken.zlib.compress(bytes(14)))),
    "pickle": broken.pickle.dumps({"v_template": np.ones((2, 3))}, 2),
}


@st.composite
def spoilt(draw, good: bytes) -> bytes:
    """A good file in which one stretch is replaced by any bytes, or any bytes alone."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    start = draw(st.integers(0, len(good)))
    length = draw(st.integers(0, 8))
    return good[:start] + draw(st.binary(max_size=8)) + good[start + length :]


@pytest.mark.parametrize("kind", READERS)
def test_any_bytes_are_read_or_refused(kind, tmp_path):
    path = tmp_path / ("file.pkl" if kind == "pickle" else "file")

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(spoilt(SEEDS[kind]))
    def check(content):
        path.write_bytes(content)
        is_refused(lambda: READERS[kind](path), f"{kind}: {content!r}")

    check()
