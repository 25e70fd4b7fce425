"""The recipe of CLIP-ReID against the published one.

Learning rates per epoch, losses by hand, names and shapes of CLIP ViT-B/16.
"""

import math
from pathlib import Path
from types import SimpleNamespace as Section

import pytest
import torch
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from posedive_lib import params
from posedive_lib.reid import losses
from posedive_lib.reid.clip_reid import ClipReID, ImageEncoder, PromptLearner
from posedive_lib.reid.clip_reid_training import parameter_groups, stage2_terms
from posedive_lib.reid.learning_rate import epoch_of, stage1_rate, stage2_rate, steps_of
from posedive_lib.weights import clip_towers

ROOT = Path(__file__).resolve().parents[1]
STAGE1 = {1: 7.8e-5, 60: 1.76e-4, 119: 1.06e-6}  # published learning rates by epoch
STAGE2 = {1: 9.5e-7, 5: 2.75e-6, 10: 5e-6, 29: 5e-6, 30: 5e-7, 49: 5e-7, 50: 5e-8, 60: 5e-8}


@pytest.fixture(scope="module")
def paper():
    return params.load(ROOT / "params/paper.yaml").reid


@pytest.mark.parametrize("epoch, expected", STAGE1.items())
def test_stage1_learning_rates(paper, epoch, expected):
    assert paper.stage1.epochs == 120
    assert float(f"{stage1_rate(epoch, paper.stage1):.2e}") == expected


@pytest.mark.parametrize("epoch, expected", STAGE2.items())
def test_stage2_learning_rates(paper, epoch, expected):
    assert paper.stage2.epochs == 60
    assert stage2_rate(epoch, paper.stage2) == pytest.approx(expected, rel=1e-12)


def test_the_rest_of_the_published_recipe(paper):
    assert (paper.image.height, paper.image.width) == (256, 128) and (
        paper.batch_size,
        paper.instances,
    ) == (64, 4)
    assert (paper.id_weight, paper.triplet_weight, paper.i2t_weight) == (0.25, 1.0, 1.0)
    assert (paper.margin, paper.label_smoothing, paper.random_erasing) == (0.3, 0.1, 0.5)
    assert paper.stage1.weight_decay == paper.stage2.weight_decay == 1e-4


def test_fewer_steps_walk_through_the_same_epochs(paper):
    """The mini world's schedule has the published shape.

    Each step has the rate of the epoch at the same share of the training.
    """
    mini = params.load(ROOT / "params/mini.yaml").reid
    for stage, rate in (("stage1", stage1_rate), ("stage2", stage2_rate)):
        ours, theirs = getattr(mini, stage), getattr(paper, stage)
        scale = ours.learning_rate / theirs.learning_rate
        for step in range(ours.steps):
            epoch = epoch_of(step, ours.steps, ours.epochs)
            assert epoch == 1 + math.floor(step / ours.steps * theirs.epochs)
            assert rate(epoch, ours) == pytest.approx(scale * rate(epoch, theirs), rel=1e-9)
    assert (
        steps_of(paper.stage2, 12936, 64) == 60 * 203
        and steps_of(mini.stage2, 12936, 64) == mini.stage2.steps
    )
    assert [epoch_of(step, 60 * 203, 60) for step in (0, 202, 203, 60 * 203 - 1)] == [1, 1, 2, 60]


LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2])  # unequal counts


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(7, 4, generator=generator), torch.randn(7, 4, generator=generator)


def distance(a, b):
    return math.dist(a.tolist(), b.tolist())


def triplet_by_hand(x, margin=0.3):
    values = []
    for i in range(7):
        positive = max(distance(x[i], x[j]) for j in range(7) if LABELS[j] == LABELS[i])
        negative = min(distance(x[i], x[j]) for j in range(7) if LABELS[j] != LABELS[i])
        values.append(max(0.0, positive - negative + margin))
    return values


def contrastive_by_hand(x, y):
    values = []
    for i in range(7):
        dots = [float(x[i] @ y[j]) for j in range(7)]
        total = math.log(sum(math.exp(dot) for dot in dots))
        same = [dots[j] - total for j in range(7) if LABELS[j] == LABELS[i]]
        values.append(-sum(same) / len(same))
    return values


def smoothed_by_hand(logits, epsilon=0.1):
    values = []
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        total = math.log(sum(math.exp(value) for value in row))
        target = [(1 - epsilon) * (k == label) + epsilon / len(row) for k in range(len(row))]
        values.append(-sum(t * (value - total) for t, value in zip(target, row, strict=True)))
    return values


def mean(values, weights=None):
    weights = weights or [1.0] * len(values)
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.0, 1.0, 0.25, 1.0, 2.0]])
def test_losses_by_hand(weights):
    x, y = batch()
    w = None if weights is None else torch.tensor(weights)
    assert float(losses.hard_triplet(x, LABELS, 0.3, w)) == pytest.approx(
        mean(triplet_by_hand(x), weights), abs=1e-5
    )
    assert float(losses.supervised_contrastive(x, y, LABELS, w)) == pytest.approx(
        mean(contrastive_by_hand(x, y), weights), abs=1e-5
    )
    assert float(losses.identity(x, LABELS, 0.1, w)) == pytest.approx(
        mean(smoothed_by_hand(x), weights), abs=1e-5
    )


def test_values_that_can_be_worked_out_on_paper():
    two = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    # farthest positive 5, 5, and 0 (itself); nearest negative 1, sqrt(18), 1:
    # (4.3 + (5 - sqrt(18) + 0.3) + 0) / 3
    assert float(losses.hard_triplet(two, torch.tensor([0, 0, 1]), 0.3)) == pytest.approx(
        (4.3 + 5.3 - math.sqrt(18)) / 3, abs=1e-4
    )
    assert float(losses.identity(torch.zeros(2, 5), torch.tensor([0, 3]), 0.1)) == pytest.approx(
        math.log(5)
    )
    ones = torch.ones(4, 3)  # all alike: every softmax is uniform over four
    labels = torch.tensor([0, 0, 1, 1])
    assert float(losses.supervised_contrastive(ones, ones, labels)) == pytest.approx(math.log(4))
    assert (
        float(losses.hard_triplet(ones, torch.zeros(4, dtype=int), 0.3)) == 0
    )  # one identity: no negatives
    twins = torch.ones(4, 3, requires_grad=True)
    losses.hard_triplet(twins, labels, 0.3).backward()
    assert torch.isfinite(twins.grad).all()
    assert float(losses.identity(torch.zeros(2, 5), torch.tensor([0, 3]), 0.1, torch.zeros(2))) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_as_exact_under_autocast(dtype):
    """Features of one person are near each other and far from zero: rounded products lose that."""
    source = torch.Generator().manual_seed(0)
    people = 20 * functional.normalize(torch.randn(16, 128, generator=source), dim=1)
    labels = torch.arange(16).repeat_interleave(4)
    x = people[labels] + 0.05 * torch.randn(64, 128, generator=source)
    for loss in (
        lambda x: losses.hard_triplet(x, labels, 25.0),
        lambda x: losses.supervised_contrastive(x / 4, x / 4, labels),
        lambda x: losses.image_to_text(x / 4, people, labels, 0.1),
    ):
        plain = x.clone().requires_grad_()
        rounded = x.clone().requires_grad_()
        expected = loss(plain)
        with torch.autocast("cpu", dtype):
            found = loss(rounded)
        assert torch.equal(found, expected)
        for value in (expected, found):
            value.backward()
        assert torch.equal(rounded.grad, plain.grad)


def test_terms_of_stage_2():
    (x11, x12), (proj, text) = batch(1), batch(2)
    logits12, logits_proj = (
        torch.randn(7, 3, generator=torch.Generator().manual_seed(3)),
        torch.randn(7, 3, generator=torch.Generator().manual_seed(4)),
    )
    recipe = Section(
        id_weight=0.25, triplet_weight=1.0, i2t_weight=1.0, label_smoothing=0.1, margin=0.3
    )
    terms = {
        name: float(value)
        for name, value in stage2_terms(
            (x11, x12, proj, logits12, logits_proj), LABELS, text[:3], recipe
        ).items()
    }
    expected = {
        "id_x12": 0.25 * mean(smoothed_by_hand(logits12)),
        "id_proj": 0.25 * mean(smoothed_by_hand(logits_proj)),
        "triplet_x11": mean(triplet_by_hand(x11)),
        "triplet_x12": mean(triplet_by_hand(x12)),
        "triplet_proj": mean(triplet_by_hand(proj)),
        "image_to_text": mean(smoothed_by_hand(proj @ text[:3].T)),
    }
    assert terms == pytest.approx(expected, abs=1e-4)


def transformer(prefix, width, layers=12):
    """Names and shapes of the blocks of one of CLIP's transformers."""
    table = {}
    for layer in range(layers):
        block = f"{prefix}.encoder.layers.{layer}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            table |= {
                f"{block}.self_attn.{name}.weight": (width, width),
                f"{block}.self_attn.{name}.bias": (width,),
            }
        for name in ("layer_norm1", "layer_norm2"):
            table |= {f"{block}.{name}.weight": (width,), f"{block}.{name}.bias": (width,)}
        table |= {
            f"{block}.mlp.fc1.weight": (4 * width, width),
            f"{block}.mlp.fc1.bias": (4 * width,),
        }
        table |= {f"{block}.mlp.fc2.weight": (width, 4 * width), f"{block}.mlp.fc2.bias": (width,)}
    return table


# openai/clip-vit-base-patch16: 224 pixels in patches of 16 are 14 x 14 + 1 = 197 positions;
# 77 tokens of 49,408 words
PUBLISHED = {
    "logit_scale": (),
    "vision_model.embeddings.class_embedding": (768,),
    "vision_model.embeddings.patch_embedding.weight": (768, 3, 16, 16),
    "vision_model.embeddings.position_embedding.weight": (197, 768),
    "vision_model.pre_layrnorm.weight": (768,),
    "vision_model.pre_layrnorm.bias": (768,),
    "vision_model.post_layernorm.weight": (768,),
    "vision_model.post_layernorm.bias": (768,),
    "text_model.embeddings.token_embedding.weight": (49408, 512),
    "text_model.embeddings.position_embedding.weight": (77, 512),
    "text_model.final_layer_norm.weight": (512,),
    "text_model.final_layer_norm.bias": (512,),
    "visual_projection.weight": (512, 768),
    "text_projection.weight": (512, 512),
    **transformer("vision_model", 768),
    **transformer("text_model", 512),
}


class Words:
    """What the prompt needs of CLIP's tokenizer; "a photo of a" is four words, "person." two."""

    bos_token_id, eos_token_id = 49406, 49407

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [320] * len(text.replace(".", " .").split())}


@pytest.fixture(scope="module")
def vit_b16():
    with torch.device("meta"):
        config = CLIPConfig(
            text_config={"projection_dim": 512},
            projection_dim=512,
            vision_config={
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_attention_heads": 12,
                "patch_size": 16,
                "projection_dim": 512,
            },
        )
        return CLIPModel(config)


def test_every_published_tensor_has_its_place(vit_b16):
    assert len(PUBLISHED) == 398
    assert sum(math.prod(shape) for shape in PUBLISHED.values()) == 149_620_737
    own = {name: tuple(value.shape) for name, value in vit_b16.state_dict().items()}
    assert own == PUBLISHED
    published = {name: torch.empty(shape, device="meta") for name, shape in PUBLISHED.items()}
    loaded = vit_b16.load_state_dict(published, strict=False, assign=True)
    assert not loaded.missing_keys and not loaded.unexpected_keys


def test_clip_reid_on_vit_b16(vit_b16):
    vision, text = clip_towers(vit_b16)
    with torch.device("meta"):
        plain = ImageEncoder(vision, 256, 128)
        assert plain.positions.shape == (1 + 16 * 8, 768)
        model = ClipReID(plain, 751, None)
        prompts = PromptLearner(text, Words(), 751, None)
    assert prompts.context.shape == (751, 4, 512) and prompts.prefix.shape == (
        5,
        512,
    )  # start, "a photo of a"
    x11, x12, proj, logits12, logits_proj = model(torch.empty(2, 3, 256, 128, device="meta"))
    assert (x11.shape, x12.shape, proj.shape) == (
        (2, 768),
        (2, 768),
        (2, 512),
    ) and logits12.shape == logits_proj.shape == (2, 751)
    assert model.features(torch.empty(2, 3, 256, 128, device="meta")).shape == (2, 1280)
    (_, one), (biases, two) = parameter_groups(model)
    assert (
        (one, two) == (1.0, 2.0)
        and biases
        and not any(value is model.head12.norm.bias for value in biases)
    )
    assert not any(value.requires_grad for value in prompts.text.parameters())
