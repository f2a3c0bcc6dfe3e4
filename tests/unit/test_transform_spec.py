import json
from dataclasses import asdict

import pytest

from vidpipe.transform_spec import AugmentSpec, ViewSpec

NAN = float("nan")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resize_short": 0}, ["resize_short", "1 to 8192", "0"]),
        ({"resize_short": 9000}, ["resize_short", "1 to 8192", "9000"]),
        ({"resize_short": 1.5}, ["resize_short", "whole pixels", "1.5"]),
        ({"crops": 2}, ["crops", "1, 3, 5", "2"]),
        ({"join": "max"}, ["join", "mean_softmax, mean_logits, vote", "'max'"]),
    ],
)
def test_a_wrong_view_setting_says_the_value_and_the_rule(settings, words):
    with pytest.raises(ValueError, match=words[0]) as caught:
        ViewSpec(**settings)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"crop": "corner"}, ["crop", "center, random, resized", "'corner'"]),
        ({"short_side": (320, 256)}, ["short_side", "smaller first", "(320, 256)"]),
        ({"short_side": (256,)}, ["short_side", "two numbers", "(256,)"]),
        ({"short_side": (0, 256)}, ["short_side", "1 to 8192", "0"]),
        ({"short_side": (2.5, 3.5)}, ["short_side", "whole pixels", "2.5"]),
        ({"short_side": (NAN, 3)}, ["short_side", "two numbers", "nan"]),
        ({"crop": "resized", "short_side": (256, 320)}, ["short_side", "not resized", "drop it", "crop random"]),
        ({"area": (0.5, 1.0)}, ["area", "not center", "drop it", "crop resized"]),
        ({"crop": "resized", "area": (0.0, 1.0)}, ["area", "above 0", "0.0"]),
        ({"crop": "resized", "area": (0.5, 1.5)}, ["area", "up to 1", "1.5"]),
        ({"flip": -0.1}, ["flip", "from 0 (off) to 1", "-0.1"]),
        ({"flip": NAN}, ["flip", "nan"]),
        ({"translate": 2}, ["translate", "from 0 (off) to 1", "2"]),
        ({"color_jitter": 1.5}, ["color_jitter", "from 0 (off) to 1", "1.5"]),
        ({"erase": -1}, ["erase", "from 0 (off) to 1", "-1"]),
        ({"mixup": -0.2}, ["mixup", "0 (off) or above", "-0.2"]),
        ({"cutmix": float("inf")}, ["cutmix", "0 (off) or above", "inf"]),
        ({"rand_augment": 15}, ["rand_augment", "0 (off) to 14", "15"]),
        ({"rand_augment": 0.5}, ["rand_augment", "number of operations", "0.5"]),
        ({"magnitude": 9}, ["magnitude", "off", "drop it", "set rand_augment"]),
        ({"rand_augment": 2, "magnitude": 31}, ["magnitude", "0 to 30", "31"]),
    ],
)
def test_a_wrong_augmentation_says_the_value_the_rule_and_the_way_out(settings, words):
    with pytest.raises(ValueError, match=words[0]) as caught:
        AugmentSpec(**settings)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "spec",
    [
        ViewSpec(resize_short=256, crops=3, join="vote"),
        AugmentSpec(),
        AugmentSpec(crop="random", short_side=(256, 320), flip=0.5),
        AugmentSpec(crop="resized", rand_augment=2, mixup=0.8, cutmix=1.0),
    ],
)
def test_a_spec_survives_json(spec):
    assert type(spec)(**json.loads(json.dumps(asdict(spec)))) == spec


def test_a_default_that_was_given_is_the_same_spec_as_one_that_was_not():
    assert AugmentSpec(crop="resized", area=(0.08, 1)) == AugmentSpec(crop="resized")
    assert AugmentSpec(rand_augment=2, magnitude=9) == AugmentSpec(rand_augment=2)
