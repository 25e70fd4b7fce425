"""CLIP-ReID and its parts, on a tiny random CLIP made here."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection, PreTrainedTokenizerFast

from posedive_lib.errors import StudyError
from posedive_lib.reid import augmentation, images, losses
from posedive_lib.reid.clip_reid import CONTEXT, ClipReID, resize_positions
from posedive_lib.reid.images import ImageSet
from posedive_lib.reid.sampler import PKSampler, shuffled_batches
from posedive_lib.reid.training import ClipReIDBaseline, run, stage1_rate, stage2_rate


def save_tiny_clip(folder, image_size=32, width=32, layers=2, patch=8):
    """A random CLIP with byte-level tokens, in the layout of a Stable Diffusion folder."""
    vocabulary = {token: index for index, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = normalizers.Lowercase(), pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.save_pretrained(folder / "tokenizer")
    common = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "num_attention_heads": 2, "projection_dim": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(CLIPVisionConfig(**common, image_size=image_size, patch_size=patch)).save_pretrained(folder / "image_encoder")
        text = CLIPTextConfig(**common, vocab_size=len(vocabulary), max_position_embeddings=77, bos_token_id=fast.bos_token_id, eos_token_id=fast.eos_token_id)
        CLIPTextModelWithProjection(text).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def params():
    return SimpleNamespace(
        instances=4, batch_size=16, stage1=SimpleNamespace(steps=20, learning_rate=3.5e-3, weight_decay=1e-4),
        stage2=SimpleNamespace(steps=30, learning_rate=1e-3, weight_decay=1e-4, warmup=0.15), label_smoothing=0.1, margin=0.3,
        id_weight=0.25, triplet_weight=1.0, i2t_weight=1.0, random_erasing=0.5,
    )


def people(count, each, seed=0, first=0):
    """Coloured noise, one colour per identity, pids with gaps as in real sets."""
    rng = np.random.default_rng(seed)
    pids = np.repeat(np.arange(first, first + count), each)
    colour = np.random.default_rng(5).integers(40, 215, (64, 2, 3))
    base = colour[pids].repeat(16, axis=1)[:, :, None]
    shades = np.clip(base + rng.normal(0, 25, (len(pids), 32, 16, 3)), 0, 255).astype(np.uint8)
    return ImageSet(shades, pids * 7 + 3, np.tile(np.arange(each), count))


def test_image_encoder_is_clips_own(clip):
    vision = CLIPVisionModelWithProjection.from_pretrained(clip / "image_encoder").eval()
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = vision(pixels)
        model = ClipReID.from_pretrained(clip, 32, 32, 5, seed=0).eval()
        x11, x12, proj = model.encoder(pixels)
    torch.testing.assert_close(proj, expected.image_embeds, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        hidden = vision(pixels, output_hidden_states=True).hidden_states
        torch.testing.assert_close(x11, hidden[-2][:, 0], atol=1e-5, rtol=1e-5)
    assert x12.shape == (3, 32)


def test_prompt_goes_through_clips_own_text_encoder(clip):
    model = ClipReID.from_pretrained(clip, 32, 16, 2, seed=0).eval()
    text = CLIPTextModelWithProjection.from_pretrained(clip / "text_encoder").eval()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(clip / "tokenizer")
    words = tokenizer("a photo of a", add_special_tokens=False)["input_ids"], tokenizer("person.", add_special_tokens=False)["input_ids"]
    learned = [3, 1, 4, 1]
    ids = torch.tensor([[tokenizer.bos_token_id, *words[0], *learned, *words[1], tokenizer.eos_token_id]])
    padded = torch.nn.functional.pad(ids, (0, 77 - ids.shape[1]), value=tokenizer.eos_token_id)
    with torch.no_grad():
        model.prompts.context[1] = text.get_input_embeddings()(torch.tensor(learned))
        ours = model.text_features()
        torch.testing.assert_close(ours[1:], text(padded).text_embeds, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours[0], ours[1])
    assert model.prompts.context.shape == (2, CONTEXT, 32)


def test_positions_are_resized_to_the_grid():
    positions = torch.cat([torch.full((1, 2), 9.0), torch.arange(4.0).repeat_interleave(4)[:, None].expand(16, 2)])
    resized = resize_positions(positions, (4, 2))
    assert resized.shape == (9, 2) and torch.equal(resized[0], positions[0])
    assert torch.allclose(resized[1:, 0], torch.arange(4.0).repeat_interleave(2))
    assert resize_positions(positions, (4, 4)) is positions
    with pytest.raises(StudyError, match="square"):
        resize_positions(positions[:-1], (4, 4))


def test_a_run_learns_and_is_a_function_of_its_seed(clip, params):
    train, test = people(6, 6), people(8, 4, seed=1, first=6)
    query, gallery = test.take(test.camids == 0), test.take(test.camids > 0)
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = run(train, query, gallery, params, pretrained=clip, seed=1, device="cpu")
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(99)
    again = run(train, query, gallery, params, pretrained=clip, seed=1, device="cpu")
    other = run(train, query, gallery, params, pretrained=clip, seed=2, device="cpu")
    assert first["losses"] == again["losses"] and first["mAP"] == again["mAP"] and first["query_ap"] == again["query_ap"]
    assert first["losses"] != other["losses"]
    assert np.mean(first["losses"]["stage1"][-5:]) < np.mean(first["losses"]["stage1"][:5])
    assert np.mean(first["losses"]["stage2"][-5:]) < np.mean(first["losses"]["stage2"][:5])
    assert first["n_query"] == first["n_valid"] == 8 and first["mAP"] > 60 and first["rank1"] <= first["rank5"] <= 100
    assert first["n_train"] == 36 and first["n_identities"] == 6


def test_stage2_leaves_the_text_side_alone(clip, params):
    baseline = ClipReIDBaseline(params, clip, 32, 16, "cpu")
    baseline.fit(people(3, 5), seed=0)
    original = ClipReID.from_pretrained(clip, 32, 16, 3, seed=0)
    for name, value in baseline.model.text.state_dict().items():
        assert torch.equal(value, original.text.state_dict()[name])
    assert torch.equal(baseline.model.head12.norm.bias, torch.zeros(32))
    assert not torch.equal(baseline.model.encoder.positions, original.encoder.positions)


def test_save_and_load(clip, params, tmp_path):
    train = people(3, 5)
    baseline = ClipReIDBaseline(params, clip, 32, 16, "cpu")
    with pytest.raises(StudyError, match="fit or load"):
        baseline.extract(train.images)
    baseline.fit(train, seed=0)
    features = baseline.extract(train.images)
    assert features.shape == (15, 32 + 16) and features.dtype == np.float32
    baseline.save(tmp_path / "saved")
    loaded = ClipReIDBaseline(params, clip, 32, 16, "cpu").load(tmp_path / "saved")
    assert np.array_equal(loaded.extract(train.images), features)
    assert not any("text." in key and "prompts" not in key for key in __import__("safetensors").safe_open(tmp_path / "saved/model.safetensors", "pt").keys())
    (tmp_path / "saved" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(StudyError, match="saved"):
        loaded.load(tmp_path / "saved")
    with pytest.raises(StudyError, match="32 x 16"):
        baseline.extract(np.zeros((1, 16, 16, 3), np.uint8))


def test_missing_weights_and_wrong_sizes_are_named(clip, params, tmp_path):
    with pytest.raises(StudyError, match="image_encoder"):
        ClipReID.from_pretrained(tmp_path, 32, 16, 3, seed=0)
    with pytest.raises(StudyError, match="8-pixel"):
        ClipReID.from_pretrained(clip, 30, 16, 3, seed=0)
    wild = SimpleNamespace(**{**vars(params), "stage2": SimpleNamespace(steps=30, learning_rate=1e30, weight_decay=0.0, warmup=0.0)})
    with pytest.raises(StudyError, match=r"reid\.stage2\.learning_rate"):
        ClipReIDBaseline(wild, clip, 32, 16, "cpu").fit(people(3, 5), seed=0)


def test_rates():
    assert stage1_rate(0, 120) == pytest.approx(1 / 35) and stage1_rate(119, 120) == pytest.approx(1 / 350, abs=1e-3)
    assert [round(stage2_rate(step, 60, 1 / 6), 3) for step in (0, 5, 10, 29, 30, 49, 50, 59)] == [0.1, 0.55, 1, 1, 0.1, 0.1, 0.01, 0.01]


def test_losses_by_hand():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 4, generator=generator), torch.randn(7, 4, generator=generator)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2])   # unequal counts
    triplet, contrastive = [], []
    for i in range(7):
        distance = [(x[i] - x[j]).norm() for j in range(7)]
        positive = max(distance[j] for j in range(7) if labels[j] == labels[i])
        negative = min(distance[j] for j in range(7) if labels[j] != labels[i])
        triplet.append(max(0, positive - negative + 0.3))
        log_p = [x[i] @ y[j] - torch.logsumexp(y @ x[i], 0) for j in range(7)]
        same = [log_p[j] for j in range(7) if labels[j] == labels[i]]
        contrastive.append(-sum(same) / len(same))
    assert losses.hard_triplet(x, labels, 0.3) == pytest.approx(float(sum(triplet) / 7), abs=1e-5)
    assert losses.supervised_contrastive(x, y, labels, labels) == pytest.approx(float(sum(contrastive) / 7), abs=1e-5)
    twins = torch.ones(4, 3, requires_grad=True)
    losses.hard_triplet(twins, torch.tensor([0, 0, 1, 1]), 0.3).backward()
    assert torch.isfinite(twins.grad).all()


def test_pk_batches():
    labels = np.repeat(np.arange(10), [1, 2, 9, 4, 5, 6, 7, 8, 3, 4])
    batches = list(PKSampler(labels, 16, 4, 25, seed=3))
    assert len(batches) == 25
    for batch in batches:
        found, counts = np.unique(labels[batch], return_counts=True)
        assert len(found) == 4 and (counts == 4).all()
    seen = np.bincount(np.concatenate([np.unique(labels[batch]) for batch in batches]), minlength=10)
    assert seen.max() - seen.min() <= 1
    assert set(np.concatenate(batches)) == set(range(len(labels)))   # every image is used
    assert np.array_equal(np.concatenate(batches), np.concatenate(list(PKSampler(labels, 16, 4, 25, seed=3))))
    few = list(PKSampler(np.repeat([5, 9], 3), 64, 4, 2, seed=0))
    assert [len(batch) for batch in few] == [64, 64]
    with pytest.raises(StudyError, match="at least two"):
        PKSampler(np.zeros(9, int), 16, 4, 2, seed=0)
    assert [len(batch) for batch in shuffled_batches(64, 64, 3, 0)] == [64, 64, 64]
    assert [len(batch) for batch in shuffled_batches(5, 16, 2, 0)] == [16, 16]


def test_augmentation():
    def generator():
        return torch.Generator().manual_seed(4)

    batch = torch.randint(1, 256, (40, 64, 32, 3), dtype=torch.uint8, generator=generator())
    assert torch.equal(augmentation.augment(batch, generator(), 0.5), augmentation.augment(batch, generator(), 0.5))
    flipped = augmentation.flip(batch, generator())
    kinds = [torch.equal(a, b) or torch.equal(a, b.flip(1)) for a, b in zip(flipped, batch, strict=True)]
    assert all(kinds) and not torch.equal(flipped, batch)
    cropped = augmentation.pad_crop(batch, generator())
    padded = torch.nn.functional.pad(batch, (0, 0, 2, 2, 2, 2))
    windows = [any(torch.equal(cropped[i], padded[i, y : y + 64, x : x + 32]) for y in range(5) for x in range(5)) for i in range(40)]
    assert all(windows)
    plain = augmentation.normalise(batch)
    assert plain.shape == (40, 3, 64, 32) and plain.min() >= -1 and plain.max() <= 1
    assert torch.equal(augmentation.erase(plain, generator(), 0.0), plain)
    erased = (augmentation.erase(plain, generator(), 1.0) != plain).any(dim=1)
    for mask in erased:
        rows, columns = mask.any(dim=1).nonzero().squeeze(1), mask.any(dim=0).nonzero().squeeze(1)
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all() and 0.01 < box.numel() / mask.numel() < 0.4


def test_images_are_read_once_and_broken_ones_named(tmp_path):
    for index, size in enumerate([(16, 32), (20, 50)]):
        Image.fromarray(np.full((size[1], size[0], 3), 60 + index, np.uint8)).save(tmp_path / f"{index}.png")
    loaded = images.read([tmp_path / "0.png", tmp_path / "1.png"], 32, 16)
    assert loaded.shape == (2, 32, 16, 3) and loaded.dtype == np.uint8 and loaded[1].max() == 61
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(StudyError, match=r"bad\.jpg"):
        images.read([tmp_path / "bad.jpg"], 32, 16)
    with pytest.raises(StudyError, match=r"gone\.jpg is missing"):
        images.read([tmp_path / "gone.jpg"], 32, 16)
    with pytest.raises(StudyError, match="uint8"):
        ImageSet(loaded.astype(float), np.zeros(2), np.zeros(2))
    both = ImageSet(loaded, np.array([1, 2]), np.array([0, 0]))
    assert len(both.plus(both.take(np.array([1])))) == 3
