import pytest
import torch
import torchvision
from small_models import LABELS, SPECS

from vidpipe.model_spec import ModelInput, ModelSpec
from vidpipe.models import MODELS, build_empty, build_model
from vidpipe.models.conv3d import ClippedAveragePool
from vidpipe.models.frame_vote import join_by_mean, join_by_vote

EVERY_MODEL = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def clips_for(model, num_clips=4):
    """Clips that differ in all: of the smallest kind that the model takes, at least 32 pixels."""
    side = 32 if model.input.any_size else model.input.height
    num_frames = model.input.num_frames or max(model.input.min_frames, 2)
    return torch.randn(num_clips, num_frames, 3, side, side)


def loss_of(model, clips):
    targets = torch.arange(len(clips)) % len(LABELS)
    return torch.nn.functional.cross_entropy(model(clips), targets)


def test_every_model_is_tested():
    assert {spec.model for spec in SPECS.values()} == set(MODELS)


@EVERY_MODEL
def test_clips_become_one_row_of_finite_logits_each(spec):
    model = build_model(spec, LABELS).eval()
    clips = clips_for(model)
    logits = model(clips)
    assert logits.shape == (len(clips), len(LABELS))
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(model(clips[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)
    assert torch.equal(model.head(model.features(clips)), logits)


@EVERY_MODEL
def test_logits_are_of_full_precision_under_autocast_too(spec):
    model = build_model(spec, LABELS).eval()
    clips = clips_for(model, num_clips=1)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = model(clips)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, model(clips), rtol=0.1, atol=0.1)


@EVERY_MODEL
def test_every_parameter_that_may_learn_gets_a_gradient(spec):
    model = build_model(spec, LABELS)
    loss_of(model, clips_for(model)).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("backbone", ["r3d_18", "r2plus1d_18", "s3d"])
def test_convolutions_of_the_shortest_clips_go_back_as_plain_loops_do(backbone):
    """Fast kernels have been wrong where there are fewer frames than a convolution is long."""
    model = build_model(ModelSpec(model="conv3d", backbone=backbone, weights="none"), LABELS)
    inputs = {}

    def note(layer, arguments):
        inputs[layer] = arguments[0].detach()

    hooks = [m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, torch.nn.Conv3d)]
    model(clips_for(model))
    for hook in hooks:
        hook.remove()
    for layer, clips in inputs.items():
        gradients = []
        for is_fast in (False, True):
            layer.zero_grad()
            with torch.backends.mkldnn.flags(enabled=is_fast):
                output = layer(clips)
                (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
            gradients.append(layer.weight.grad)
        plain, fast = gradients
        assert (fast - plain).abs().max() < 1e-3 * plain.abs().max(), (layer, clips.shape)


@EVERY_MODEL
def test_a_frozen_backbone_stays_as_it_is_in_eval_mode_and_the_head_learns(spec):
    model = build_model(ModelSpec.from_json(spec.to_json()), LABELS)
    model.freeze_backbone()
    model.train()
    assert not any(module.training for module in model.backbone.modules())
    assert model.head.training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    clips = clips_for(model)
    assert not model.features(clips).requires_grad
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    loss_of(model, clips).backward()
    optimizer.step()
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed
    assert all(name.startswith("head.") for name in changed)


@EVERY_MODEL
def test_four_clips_can_be_learned_by_heart(spec):
    model = build_model(spec, LABELS)
    clips = clips_for(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = loss_of(model, clips)
        if loss < 0.2:
            return
        loss.backward()
        optimizer.step()
    pytest.fail(f"loss {loss.item():.3f} after 40 steps")


@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_lite0", "googlenet", "inception_v3", "maxvit_t"),
        *("mnasnet0_5", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "vgg11", "vit_b_32"),
    ],
)
def test_an_image_classifier_of_any_family_is_a_backbone(name):
    with torch.device("meta"):
        model = build_empty(ModelSpec(model="frame_vote", backbone=name, weights="none"), LABELS).eval()
        side = max(model.input.min_side, 32) if model.input.any_size else model.input.height
        assert model(torch.empty(1, 2, 3, side, side)).shape == (1, len(LABELS))


@pytest.mark.parametrize("name", ["r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_a_video_classifier_takes_the_smallest_clip_that_it_declares(name):
    with torch.device("meta"):
        model = build_empty(ModelSpec(model="conv3d", backbone=name, weights="none"), LABELS).eval()
        side = max(model.input.min_side, 16) if model.input.any_size else model.input.height
        assert model(torch.empty(1, model.input.min_frames, 3, side, side)).shape == (1, len(LABELS))
        if model.input.min_frames > 1:
            with pytest.raises(RuntimeError):
                model(torch.empty(1, model.input.min_frames // 2, 3, side, side))


def test_a_video_classifier_computes_what_torchvision_computes():
    model = build_empty(ModelSpec(backbone="r3d_18", weights="none"), LABELS).eval()
    theirs = torchvision.models.get_model("r3d_18", weights=None, num_classes=len(LABELS)).eval()
    theirs.load_state_dict({**model.backbone.network.state_dict(), **_named("fc", model.head[1])})
    clips = torch.randn(1, 4, 3, 32, 32)
    torch.testing.assert_close(model(clips), theirs(clips.transpose(1, 2)), rtol=0, atol=0)


def _named(name, layer):
    return {f"{name}.{key}": tensor for key, tensor in layer.state_dict().items()}


def test_the_pool_of_s3d_is_torchvisions_own_where_that_one_fits():
    ours, theirs = ClippedAveragePool((2, 7, 7)), torch.nn.AvgPool3d((2, 7, 7), stride=1)
    for shape in ((1, 4, 2, 7, 7), (1, 4, 4, 8, 10)):
        features = torch.randn(shape)
        assert torch.equal(ours(features), theirs(features))
    assert ours(torch.randn(1, 4, 1, 2, 3)).shape == (1, 4, 1, 1, 1)


def test_video_models_are_shown_what_their_weights_were_trained_with():
    kinetics = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
    expected = {
        "r3d_18": ModelInput(112, 112, True, None, 1, *kinetics, resize_short=128),
        "s3d": ModelInput(224, 224, True, None, 8, *kinetics, min_side=24, resize_short=256),
        "mvit_v2_s": ModelInput(224, 224, False, 16, 16, (0.45,) * 3, (0.225,) * 3, 224, 256),
    }
    for name, model_input in expected.items():
        with torch.device("meta"):
            assert build_empty(ModelSpec(backbone=name, weights="none"), LABELS).input == model_input


def test_frame_vote_is_blind_to_the_order_of_frames_and_cnn_rnn_is_not():
    for name, is_blind in (("frame_vote", True), ("cnn_rnn", False)):
        model = build_model(SPECS[name], LABELS).eval()
        clips = clips_for(model)
        assert torch.allclose(model(clips), model(clips.flip(1)), atol=1e-5) == is_blind


def test_the_mean_of_frames_is_the_mean_of_their_probabilities():
    log_probabilities = torch.randn(2, 5, 3).log_softmax(-1)
    joined = join_by_mean(log_probabilities, training=True).softmax(-1)
    torch.testing.assert_close(joined, log_probabilities.exp().mean(1))


def test_the_label_that_most_frames_have_wins_however_sure_the_others_are_and_ties_go_to_the_surer():
    frames = torch.tensor([[0.4, 0.35, 0.25], [0.4, 0.35, 0.25], [0.0, 1.0, 0.0]]).clamp_min(1e-9).log()
    assert join_by_vote(frames[None], training=False).argmax().item() == 0
    shares = join_by_vote(frames[None], training=False).softmax(-1)
    torch.testing.assert_close(shares, torch.tensor([[2 / 3, 1 / 3, 0.0]]), rtol=0, atol=0.005)
    assert join_by_vote(frames[None, 1:], training=False).argmax().item() == 1


def test_a_vote_over_clips_of_one_frame_trains_each_frame_alone():
    logits = torch.randn(6, 1, 3)
    torch.testing.assert_close(join_by_vote(logits.log_softmax(-1), training=True), logits[:, 0].log_softmax(-1))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec(model="frame_vote", backbone="resnet19", weights="none"), "did you mean resnet1"),
        (ModelSpec(model="conv3d", backbone="resnet18", weights="none"), "not one of torchvision's for --model conv3d"),
        (ModelSpec(model="conv3d", weights="KINETICS_V9"), "choose none, default, KINETICS400_V1"),
        (ModelSpec(model="transformer", backbone="bert", weights="none"), "give a local folder"),
        (
            ModelSpec(model="transformer", backbone="vivit", weights="none", model_config=("hidden_sise=8",)),
            "hidden_sise is not a setting of vivit",
        ),
        (
            ModelSpec(model="transformer", backbone="vivit", weights="none", model_config=("hidden_size=wide",)),
            "hidden_size=wide",
        ),
        (
            ModelSpec(model="transformer", backbone="videomae", weights="none", model_config=("hidden_size=50",)),
            "hidden_size=50",
        ),
    ],
)
def test_a_model_that_cannot_be_built_says_why_and_what_to_choose(spec, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message):
        build_model(spec, LABELS)


def test_clips_that_a_model_cannot_take_are_refused_by_what_it_declares():
    declared = ModelInput(224, 224, False, 16, 16, (0.5,) * 3, (0.5,) * 3)
    declared.check(16, 224, 224)
    declared.check(32, 224, 224)
    with pytest.raises(ValueError, match="exactly 16 frames a clip, these clips have 8"):
        declared.check(8, 224, 224)
    with pytest.raises(ValueError, match="224x224 pixels only, got 112x112"):
        declared.check(16, 112, 112)
    with pytest.raises(ValueError, match="75 pixels a side or more"):
        ModelInput(299, 299, True, None, 1, (0.5,) * 3, (0.5,) * 3, min_side=75).check(1, 64, 64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "conv3d", "join": "vote"}, "join is for model frame_vote, not conv3d"),
        ({"model": "transformer", "head": "mlp"}, "head is for model frame_vote or cnn_rnn or conv3d"),
        ({"model": "conv3d", "mlp_sizes": (8,)}, "mlp_sizes is for head mlp"),
        ({"model": "resnet"}, "model must be one of"),
        ({"model": "transformer", "weights": "KINETICS400_V1"}, "--backbone NAME"),
        ({"model": "transformer", "model_config": ("hidden_size",)}, "NAME=VALUE"),
        ({"weights": "a/b.bin"}, "must be a file that ends in"),
        ({"dropout": 1.0}, "below 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec(**fields)


@pytest.mark.parametrize(("model", "backbone"), [("conv3d", "s3d"), ("cnn_rnn", "mobilenet_v3_small")])
def test_batch_norms_of_random_weights_follow_the_data_within_tens_of_steps(model, backbone):
    built = build_model(ModelSpec(model=model, backbone=backbone, weights="none"), ["a", "b"])
    momenta = {
        module.momentum for module in built.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    }
    assert momenta == {0.1}
