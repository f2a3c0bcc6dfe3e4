import json
from dataclasses import fields, replace

import pytest

from vidpipe.spec import ClipSpec

SPECS = [
    ClipSpec(),
    ClipSpec(sampling="dense", num_frames=8, frame_stride=2, num_clips=3, seed=7, size="128x171", resize="squash"),
    ClipSpec(sampling="fps", rate_fps=29.97, color="gray"),
    ClipSpec(sampling="windows", window_s=5, hop_s=2.5, encoding="jpeg", resize="letterbox", decoder="decord"),
]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sampling": "random"}, ["sampling", "uniform, dense, fps, windows", "'random'"]),
        ({"frame_stride": 4}, ["frame_stride", "dense", "not uniform", "drop it", "--sampling dense"]),
        ({"sampling": "fps", "window_s": 3}, ["window_s", "windows", "not fps"]),
        ({"sampling": "dense", "rate_fps": 3}, ["rate_fps", "fps", "not dense"]),
        ({"window_end": "repeat"}, ["window_end", "windows", "not uniform"]),
        ({"sampling": "windows", "window_end": "cut"}, ["window_end", "shifted, repeat", "'cut'"]),
        ({"sampling": "windows", "seed": 3}, ["seed", "dense", "not windows"]),
        ({"num_frames": 0}, ["num_frames", "above 0", "0"]),
        ({"num_frames": -3}, ["num_frames", "above 0", "-3"]),
        ({"sampling": "dense", "frame_stride": 0}, ["frame_stride", "above 0", "0"]),
        ({"sampling": "dense", "num_clips": 0}, ["num_clips", "above 0", "0"]),
        ({"sampling": "dense", "seed": -1}, ["seed", "0 or above", "-1"]),
        ({"sampling": "fps", "rate_fps": float("nan")}, ["rate_fps", "above 0", "nan"]),
        ({"sampling": "fps", "rate_fps": float("inf")}, ["rate_fps", "inf"]),
        ({"sampling": "windows", "window_s": -1.0}, ["window_s", "above 0", "-1.0"]),
        ({"sampling": "windows", "hop_s": 0.0}, ["hop_s", "above 0", "0.0"]),
        ({"jpeg_quality": 90}, ["jpeg_quality", "not raw", "drop it", "--encoding jpeg"]),
        ({"encoding": "jpeg", "jpeg_quality": 101}, ["jpeg_quality", "from 1 to 100", "101"]),
        ({"encoding": "jpeg", "jpeg_quality": 0}, ["jpeg_quality", "from 1 to 100", "0"]),
        ({"resize": "stretch"}, ["resize", "crop, squash, letterbox", "'stretch'"]),
        ({"color": "bgr"}, ["color", "rgb, gray", "'bgr'"]),
        ({"encoding": "png"}, ["encoding", "raw, jpeg", "'png'"]),
        ({"decoder": "cv2"}, ["decoder", "pyav, decord, torchcodec", "'cv2'"]),
        ({"tolerance_s": -0.1}, ["tolerance_s", "0 (exact) or above", "-0.1"]),
        ({"tolerance_s": float("nan")}, ["tolerance_s", "nan"]),
        ({"tolerance_s": float("inf")}, ["tolerance_s", "inf"]),
        (
            {"tolerance_s": 1, "sampling": "dense"},
            ["tolerance_s", "dense", "neighbouring", "drop it", "--sampling fps"],
        ),
        ({"tolerance_s": 1, "decoder": "decord"}, ["tolerance_s", "not decord", "drop it", "--decoder pyav"]),
        ({"tolerance_s": 1, "decoder": "torchcodec"}, ["tolerance_s", "not torchcodec", "--decoder pyav"]),
        ({"on_damage": "keep", "decoder": "decord"}, ["on_damage keep", "not decord", "drop it", "--decoder pyav"]),
        ({"on_damage": "ignore"}, ["on_damage", "fail, keep", "'ignore'"]),
        ({"skip_loop_filter": True, "decoder": "decord"}, ["skip_loop_filter", "not decord", "drop it", "pyav"]),
        ({"size": "big"}, ["size", "112", "128x171", "'big'"]),
        ({"size": "12x"}, ["size", "HEIGHTxWIDTH", "'12x'"]),
        ({"size": "-5"}, ["size", "'-5'"]),
        ({"size": "0"}, ["size", "from 1 to 8192", "'0'"]),
        ({"size": "112x9000"}, ["size", "from 1 to 8192", "'112x9000'"]),
        ({"num_frames": 64, "size": "4096"}, ["(64, 4096, 4096, 3)", "3.0 GiB", "limit is 1 GiB", "fewer frames"]),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_with_value_rule_and_way_out(settings, words):
    with pytest.raises(ValueError, match=words[0]) as refused:
        ClipSpec(**settings)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("sampling", "defaults"),
    [
        ("uniform", {"num_frames": 16}),
        ("dense", {"num_frames": 16, "frame_stride": 4, "num_clips": 1}),
        ("fps", {"num_frames": 1, "rate_fps": 1.0}),
        ("windows", {"num_frames": 16, "window_s": 10.0, "hop_s": 10.0, "window_end": "shifted"}),
    ],
)
def test_a_sampling_mode_fills_in_its_own_fields_and_leaves_the_others_empty(sampling, defaults):
    spec = ClipSpec(sampling=sampling)
    names = ("num_frames", "frame_stride", "num_clips", "seed", "rate_fps", "window_s", "hop_s", "window_end")
    assert {name: getattr(spec, name) for name in names if getattr(spec, name) is not None} == defaults


def test_windows_hop_by_their_own_length_unless_told_otherwise():
    assert ClipSpec(sampling="windows", window_s=4.0).hop_s == 4.0
    assert ClipSpec(sampling="windows", window_s=4.0, hop_s=1.0).hop_s == 1.0


def test_jpeg_has_a_quality_and_raw_has_none():
    assert ClipSpec(encoding="jpeg").jpeg_quality == 95
    assert ClipSpec().jpeg_quality is None


def test_size_is_a_square_or_height_by_width():
    assert ClipSpec(size="112", num_frames=2).shape == (2, 112, 112, 3)
    assert ClipSpec(size="128x171", num_frames=2).shape == (2, 128, 171, 3)
    assert ClipSpec(size="8x9", num_frames=2, color="gray").shape == (2, 8, 9, 1)
    assert ClipSpec(size="8x9", num_frames=2).num_bytes_raw == 2 * 8 * 9 * 3


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_survives_json(spec):
    again = ClipSpec.from_json(spec.to_json())
    assert again == spec
    assert again.key == spec.key
    assert set(json.loads(spec.to_json())) == {field.name for field in fields(ClipSpec)}


def test_a_typo_in_stored_settings_is_not_swallowed():
    with pytest.raises(TypeError, match="num_frame"):
        ClipSpec.from_json('{"num_frame": 3}')


def test_equal_settings_have_equal_keys_however_they_were_spelled():
    assert ClipSpec().key == ClipSpec(sampling="uniform", num_frames=16).key
    assert ClipSpec(sampling="windows").key == ClipSpec(sampling="windows", window_s=10.0, hop_s=10.0).key


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"sampling": "fps", "rate_fps": 2.0}, {"sampling": "fps", "rate_fps": 2}),
        ({"sampling": "windows", "window_s": 5.0}, {"sampling": "windows", "window_s": 5, "hop_s": 5.0}),
        ({"tolerance_s": 1.0}, {"tolerance_s": 1}),
        ({"size": "112"}, {"size": "112x112"}),
        ({"size": "112"}, {"size": "0112"}),
    ],
)
def test_two_spellings_of_one_value_are_one_spec(ours, theirs):
    assert ClipSpec(**ours) == ClipSpec(**theirs)
    assert ClipSpec(**ours).key == ClipSpec(**theirs).key


def test_any_other_setting_gives_another_key():
    others = [replace(SPECS[0], num_frames=8), replace(SPECS[0], size="113"), replace(SPECS[0], color="gray"), *SPECS]
    others.append(replace(SPECS[0], tolerance_s=0.5))
    others.append(replace(SPECS[0], skip_loop_filter=True))
    others.append(replace(SPECS[0], on_damage="keep"))
    assert len({spec.key for spec in others}) == len(others)


def test_a_key_stays_what_it_is_from_release_to_release():
    # Outputs in people's buckets carry it: another key here would make them all look foreign.
    assert ClipSpec().key == "1014c9c34f8ab33f"
    assert ClipSpec(sampling="windows", window_end="repeat").key == "0a990e0f78963d04"
    assert ClipSpec(sampling="windows").key != "0a990e0f78963d04"


def test_stored_settings_that_lack_a_rule_were_made_by_the_earlier_one():
    for spec in (ClipSpec(), ClipSpec(sampling="windows", window_s=2)):
        earlier = {name: value for name, value in json.loads(spec.to_json()).items() if name != "window_end"}
        read = ClipSpec.from_stored(earlier)
        assert read.window_end == ("repeat" if spec.sampling == "windows" else None)
        assert read.without_earlier_rules == earlier


def test_a_rule_that_nobody_asked_for_is_that_of_the_output():
    old = ClipSpec(sampling="windows", window_s=2, window_end="repeat")
    assert ClipSpec(sampling="windows", window_s=2).following(old) == old
    assert ClipSpec(sampling="windows", window_s=2, window_end="shifted").following(old) != old
    assert ClipSpec(sampling="windows", window_s=3, hop_s=2).following(old).differences(old) == [
        "window_s: 3.0, not 2.0"
    ]
    assert ClipSpec(sampling="windows").following(ClipSpec()) == ClipSpec(sampling="windows")
    assert ClipSpec().following(old) == ClipSpec()


def test_differences_name_each_field_with_both_values():
    assert ClipSpec().differences(ClipSpec()) == []
    found = ClipSpec(num_frames=8).differences(ClipSpec(size="64x48"))
    assert found == ["num_frames: 8, not 16", "size: 112, not 64x48"]


def test_a_spec_cannot_be_changed():
    with pytest.raises(AttributeError):
        ClipSpec().num_frames = 3
