import json
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
import transformers
from loadable import why_not
from small_models import LABELS, SPECS, TRANSFORMERS

from vidpipe.checkpoints import CheckpointFacts, load_checkpoint, save_checkpoint
from vidpipe.errors import UsageError
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_model
from vidpipe.spec import ClipSpec
from vidpipe.transform_spec import ViewSpec

EVERY_MODEL = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
METRICS = {"val": {"top1": 0.75, "protocol": {"text": "1 clip x 1 crop, mean softmax"}, "confusion": [[1]]}}


def facts_of(spec, **changes):
    facts = CheckpointFacts(
        model=spec,
        labels=LABELS,
        clip=ClipSpec(num_frames=4, size="32"),
        views=ViewSpec(),
        size=(32, 32),
        temperature=1.5,
        metrics=METRICS,
        training={"learning_rate": 1e-3},
        versions={"vidpipe": "0.1"},
        created_at="2026-01-01T00:00:00Z",
    )
    return replace(facts, **changes)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A training run's output with a small checkpoint in best/, and the model in it."""
    url = str(tmp_path_factory.mktemp("out"))
    spec = ModelSpec(model="frame_vote", backbone="mobilenet_v3_small", weights="none")
    model = build_model(spec, LABELS).eval()
    return url, model, save_checkpoint(f"{url}/best", model, facts_of(spec))


@pytest.fixture
def copied(saved, tmp_path):
    shutil.copytree(f"{saved[0]}/best", tmp_path / "copy")
    return tmp_path / "copy"


@EVERY_MODEL
def test_what_is_saved_comes_back_with_the_same_logits_and_the_same_facts(spec, tmp_path):
    model = build_model(spec, LABELS)
    clips = torch.randn(2, model.input.num_frames or 5, 3, 32, 32)
    for _ in range(2):
        model.train()(clips)  # moves the averages of batch norms
    facts = facts_of(spec)
    identity = save_checkpoint(str(tmp_path), model, facts)
    checkpoint = load_checkpoint(str(tmp_path))
    assert torch.equal(checkpoint.model(clips), model.eval()(clips))
    assert checkpoint.facts == facts
    assert checkpoint.checkpoint_id == identity
    assert checkpoint.model.input == model.input
    assert not checkpoint.model.training


def test_a_checkpoint_lives_on_any_storage_and_a_runs_output_stands_for_its_best(saved):
    url, model, identity = saved
    clips = torch.randn(1, 2, 3, 32, 32)
    assert load_checkpoint(url).checkpoint_id == identity
    remote = "memory://bucket/best"
    again = save_checkpoint(remote, model, load_checkpoint(url).facts)
    checkpoint = load_checkpoint("memory://bucket")
    assert checkpoint.checkpoint_id == again == identity
    assert torch.equal(checkpoint.model(clips), model(clips))


def test_the_id_follows_what_the_checkpoint_answers_and_nothing_else(saved, tmp_path):
    _, model, identity = saved
    facts = facts_of(SPECS["frame_vote"], model=load_checkpoint(saved[0]).facts.model)
    assert save_checkpoint(str(tmp_path), model, replace(facts, metrics={}, created_at="later")) == identity
    assert save_checkpoint(str(tmp_path), model, replace(facts, temperature=2.0)) != identity
    with torch.no_grad():
        next(model.head.parameters()).add_(1e-3)
    assert save_checkpoint(str(tmp_path), model, facts) != identity


def test_changed_weights_are_refused(copied):
    weights = copied / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"model.safetensors is not the file that checkpoint.json speaks of"):
        load_checkpoint(str(copied))


def test_a_checkpoint_that_would_answer_nan_is_refused_with_the_tensors_name(saved, tmp_path):
    checkpoint = load_checkpoint(saved[0])
    with torch.no_grad():
        next(checkpoint.model.head.parameters())[0, 0] = float("nan")
    save_checkpoint(str(tmp_path), checkpoint.model, checkpoint.facts)
    with pytest.raises(UsageError, match=r"model.safetensors: head\.\S+ holds NaN or infinity in 1 of"):
        load_checkpoint(str(tmp_path))


def test_the_model_card_says_what_the_evaluation_saw_of_the_clips(saved, tmp_path):
    checkpoint = load_checkpoint(saved[0])
    facts = replace(checkpoint.facts, clip=ClipSpec(num_frames=4, size="48x64"), views=ViewSpec(resize_short=37))
    save_checkpoint(str(tmp_path), checkpoint.model, facts)
    assert "Of each the evaluation scales to 37x49 and takes the centre 32x32." in (tmp_path / "README.md").read_text()


def test_changed_facts_are_refused(copied):
    path = copied / "checkpoint.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "labels": content["labels"][::-1]}))
    with pytest.raises(ValueError, match="was changed after it was written"):
        load_checkpoint(str(copied))
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(ValueError, match=r"not a checkpoint.json of this version"):
        load_checkpoint(str(copied))
    path.write_text("{")
    with pytest.raises(ValueError, match=r"not a checkpoint.json of this version"):
        load_checkpoint(str(copied))


@pytest.mark.parametrize(
    ("removed", "message"),
    [("checkpoint.json", "holds no checkpoint.json, nor does best/ within it"), ("model.safetensors", "is not there")],
)
def test_a_checkpoint_without_a_file_of_its_own_is_refused(copied, removed, message):
    (copied / removed).unlink()
    with pytest.raises(ValueError, match=message):
        load_checkpoint(str(copied))


def test_a_place_where_nothing_is_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match=r"give the --output of jobs/train.py"):
        load_checkpoint(str(tmp_path / "nowhere"))


def test_a_pickle_is_never_loaded_whatever_its_name(copied, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "other").mkdir()
    for path in (copied / "model.safetensors", tmp_path / "other" / "pytorch_model.bin", tmp_path / "last.pth"):
        torch.save({"weight": Trap()}, path)
    for url in (copied, tmp_path / "other", tmp_path / "last.pth"):
        with pytest.raises(ValueError, match=r"is a pickle|is not the file that"):
            load_checkpoint(str(url))
    trapped = json.loads((copied / "checkpoint.json").read_text())
    assert trapped["sha256"].keys() == {"model.safetensors"}
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_number_of_labels_are_refused(saved, tmp_path):
    _, model, _ = saved
    spec = load_checkpoint(saved[0]).facts.model
    save_checkpoint(str(tmp_path), model, facts_of(spec, labels=(*LABELS, "down")))
    with pytest.raises(ValueError, match=r"does not hold the model of checkpoint.json"):
        load_checkpoint(str(tmp_path))


def test_labels_that_the_checkpoint_does_not_know_are_named(saved):
    facts = load_checkpoint(saved[0]).facts
    facts.check_labels(["left", "up"])
    with pytest.raises(ValueError, match=r"trained on 3 labels \(left, right, up\), and not on down"):
        facts.check_labels(["left", "down"])


def test_facts_that_no_file_can_hold_leave_what_is_there_as_it_is(saved, copied):
    with pytest.raises(TypeError):
        save_checkpoint(str(copied), saved[1], facts_of(SPECS["cnn_rnn"], metrics={"top1": object()}))
    assert load_checkpoint(str(copied)).checkpoint_id == load_checkpoint(saved[0]).checkpoint_id


def test_the_model_card_shows_what_was_measured_and_how(copied):
    card = (copied / "README.md").read_text()
    assert "- val top1: 0.7500\n- val protocol text: 1 clip x 1 crop, mean softmax\n" in card
    assert "confusion" not in card
    assert "left, right, up" in card


def test_a_videomae_saved_under_the_names_of_transformers_before_5_23_comes_back(tmp_path, monkeypatch):
    spec = SPECS["transformer, videomae"]
    model = build_model(spec, LABELS).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("query.bias", "value.bias")):
            tensor.normal_()
    now = type(model).file_name
    with monkeypatch.context() as patch:
        old = lambda self, name: now(self, name).replace("query.bias", "q_bias").replace("value.bias", "v_bias")  # noqa: E731
        patch.setattr(type(model), "file_name", old)
        identity = save_checkpoint(str(tmp_path), model, facts_of(spec))
    clips = torch.randn(1, 4, 3, 32, 32)
    checkpoint = load_checkpoint(str(tmp_path))
    assert checkpoint.checkpoint_id == identity
    assert torch.equal(checkpoint.model(clips), model(clips))


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_transformers_own_loaders_read_the_folder_and_give_our_logits(family, tmp_path):
    spec = SPECS[f"transformer, {family}"]
    model = build_model(spec, LABELS).eval()
    save_checkpoint(str(tmp_path / "checkpoint"), model, facts_of(spec))
    theirs, info = transformers.AutoModelForVideoClassification.from_pretrained(
        tmp_path / "checkpoint", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    shown = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.input.mean, model.input.std))
    logits = model(((shown - mean) / std)[None])
    processor = transformers.AutoVideoProcessor.from_pretrained(tmp_path / "checkpoint")
    torch.testing.assert_close(theirs(**processor(frames, return_tensors="pt")).logits, logits, rtol=1e-4, atol=1e-5)

    pipeline = transformers.pipeline("video-classification", model=str(tmp_path / "checkpoint"), device="cpu")
    answers = pipeline.postprocess(pipeline.forward(pipeline.video_processor(frames, return_tensors="pt")))
    assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(scores_of(logits), abs=1e-4)
    if why_not("torchcodec") is None:  # transformers' own way from a file to frames
        write_lossless(tmp_path / "video.mkv", frames)
        answers = pipeline(str(tmp_path / "video.mkv"))
        assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(scores_of(logits), abs=1e-4)


def scores_of(logits):
    return dict(zip(LABELS, logits.softmax(-1)[0].tolist(), strict=True))


def write_lossless(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def test_a_transformers_checkpoint_does_not_need_the_folder_that_it_started_from(tmp_path):
    spec = SPECS["transformer, videomae"]
    first = build_model(spec, LABELS)
    save_checkpoint(str(tmp_path / "first"), first, facts_of(spec))
    second_spec = ModelSpec(model="transformer", backbone=str(tmp_path / "first"))
    second = build_model(second_spec, ["a", "b"])
    assert second.input == first.input
    save_checkpoint(str(tmp_path / "second"), second, facts_of(second_spec, labels=("a", "b")))
    shutil.rmtree(tmp_path / "first")
    clips = torch.randn(1, 4, 3, 32, 32)
    assert torch.equal(load_checkpoint(str(tmp_path / "second")).model(clips), second.eval()(clips))
