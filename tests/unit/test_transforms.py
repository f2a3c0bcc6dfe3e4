"""Against plain numpy and against pictures whose pixels say where they come from: red is the column, green the row."""

import numpy as np
import pytest
import torch
from place_pictures import AUGMENTS, MEAN, PLAIN, STD, as_bytes, noise, pictures_of_places, seeds_of, transform_to
from torchvision.transforms.v2 import functional

from vidpipe.model_spec import ModelInput
from vidpipe.transform_spec import AugmentSpec, ViewSpec
from vidpipe.transforms import ClipTransform
from vidpipe.transforms.geometry import scaled_size

pytestmark = pytest.mark.usefixtures("one_thread")


def test_frames_of_the_models_size_are_only_normalised():
    frames = noise(3, 4, 16, 20, 3)
    clips = transform_to(16, 20).view(frames, 0)
    expected = (frames.numpy() / 255 - np.array(MEAN)) / np.array(STD)
    assert clips.shape == (3, 4, 3, 16, 20)
    assert clips.dtype == torch.float32
    np.testing.assert_allclose(clips.numpy(), expected.transpose(0, 1, 4, 2, 3), rtol=0, atol=2e-6)


def test_gray_frames_become_three_equal_channels_before_they_are_normalised():
    frames = noise(2, 4, 16, 20, 1)
    clips = transform_to(16, 20).view(frames, 0)
    rgb = transform_to(16, 20).view(frames.expand(-1, -1, -1, -1, 3), 0)
    assert clips.shape == (2, 4, 3, 16, 20)
    torch.testing.assert_close(clips, rgb, rtol=0, atol=1e-6)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_gray_frames_can_be_augmented(augment):
    views = ViewSpec(resize_short=18)
    clips = transform_to(16, 16, views, AUGMENTS[augment]).augmented(noise(4, 2, 20, 24, 1), seeds_of(4))
    assert clips.shape == (4, 2, 3, 16, 16)
    assert torch.isfinite(clips).all()


def test_the_frames_themselves_are_never_changed():
    frames = noise(2, 3, 16, 16, 3)
    before = frames.clone()
    transform_to(8, 8, ViewSpec(resize_short=16), AugmentSpec(crop="random", flip=1.0, erase=1.0)).augmented(
        frames, seeds_of(2)
    )
    transform_to(16, 16).view(frames, 0)
    assert torch.equal(frames, before)


@pytest.mark.parametrize(
    ("num_crops", "places"),
    [
        (1, [(2, 6)]),
        (3, [(2, 0), (2, 6), (2, 12)]),
        (5, [(0, 0), (0, 12), (4, 0), (4, 12), (2, 6)]),
    ],
)
def test_crops_show_the_places_they_are_named_by(num_crops, places):
    wide = pictures_of_places(1, 2, 12, 20)
    tall = pictures_of_places(1, 2, 20, 12)
    transform = transform_to(8, 8, ViewSpec(resize_short=12, crops=num_crops))
    for index, (top, left) in enumerate(places):
        shown = as_bytes(transform.view(wide, index))
        assert (shown[0, :, 0, 0, :2] == [left, top]).all()
        np.testing.assert_array_equal(shown, wide[:, :, top : top + 8, left : left + 8].numpy())
    tall_places = [(0, 2), (6, 2), (12, 2)] if num_crops == 3 else None
    for index, (top, left) in enumerate(tall_places or []):
        np.testing.assert_array_equal(
            as_bytes(transform.view(tall, index)), tall[:, :, top : top + 8, left : left + 8].numpy()
        )


@pytest.mark.parametrize(("height", "width", "short"), [(40, 53, 20), (53, 40, 20), (24, 24, 16), (17, 64, 34)])
def test_a_view_is_torchvisions_resize_then_centre_crop(height, width, short):
    frames = noise(2, 3, height, width, 3)
    expected = functional.resize(frames.flatten(0, 1).permute(0, 3, 1, 2), [short], antialias=True)
    expected = functional.center_crop(expected, [16, 16]).permute(0, 2, 3, 1).unflatten(0, (2, 3))
    shown = as_bytes(transform_to(16, 16, ViewSpec(resize_short=short)).view(frames, 0))
    np.testing.assert_array_equal(shown, expected.numpy())


def test_without_a_short_side_frames_shrink_until_they_just_cover_the_crop():
    frames = noise(1, 2, 32, 48, 3)
    shown = as_bytes(transform_to(16, 16).view(frames, 0))
    scaled = functional.resize(frames[0].permute(0, 3, 1, 2), [16, 24], antialias=True).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(shown[0], scaled[:, :, 4:20].numpy())


@pytest.mark.parametrize(
    ("frame", "crop", "scaled"),
    [((24, 60), (12, 20), (12, 30)), ((40, 30), (12, 20), (26, 20)), ((12, 20), (12, 20), (12, 20))],
)
def test_the_frames_that_just_cover_a_crop_that_is_no_square(frame, crop, scaled):
    assert scaled_size(frame, crop, None) == scaled
    assert transform_to(*crop).view(noise(1, 2, *frame, 3), 0).shape == (1, 2, 3, *crop)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_clips_that_a_cpu_makes(name):
    frames = noise(4, 2, 20, 26, 3)
    transform = transform_to(16, 16, ViewSpec(resize_short=18), AUGMENTS[name])
    theirs, ours = transform.augmented(frames.cuda(), seeds_of(4)), transform.augmented(frames, seeds_of(4))
    assert theirs.device.type == "cuda"
    assert (theirs.cpu() - ours).abs().mean() < 0.05  # scaling rounds to whole levels, of 0.017


@pytest.mark.parametrize("name", ["random crop", "flip", "translate", "erase", "resized"])
def test_clips_stay_on_the_device_of_their_frames(name):
    frames = noise(4, 2, 20, 26, 3).to("meta")
    transform = transform_to(16, 16, ViewSpec(resize_short=18), AUGMENTS[name])
    assert transform.view(frames, 0).device.type == "meta"
    assert transform.augmented(frames, seeds_of(4)).device.type == "meta"


def test_a_model_with_a_fixed_number_of_frames_sees_the_middles_of_equal_spans():
    frames = pictures_of_places(2, 16, 8, 8)
    for num_frames, expected in ((4, [2, 6, 10, 14]), (16, list(range(16))), (5, [1, 4, 8, 11, 14])):
        shown = as_bytes(transform_to(8, 8, num_frames=num_frames).view(frames, 0))
        assert shown[1, :, 0, 0, 2].tolist() == expected


@pytest.mark.parametrize(
    ("shape", "changes", "views", "augment", "words"),
    [
        ((4, 8, 8, 3), {"num_frames": 8}, {}, {}, ["4 frames", "takes 8", "--num-frames 8"]),
        ((4, 8, 8, 3), {"min_frames": 6}, {}, {}, ["4 frames", "takes 6", "--num-frames 6"]),
        ((4, 6, 8, 3), {}, {}, {}, ["6x8", "too small", "8x8", "--size 8x8", "--views.resize-short 8"]),
        ((4, 9, 9, 3), {}, {"resize_short": 7}, {}, ["resize_short 7", "7x7", "8x8", "8 or more"]),
        ((4, 9, 9, 3), {}, {"crops": 3}, {}, ["crops 3", "8x8", "fewer --views.crops", "--views.resize-short above 8"]),
        (
            (4, 9, 20, 3),
            {},
            {"crops": 5},
            {},
            ["crops 5", "8x17", "fewer --views.crops", "--views.resize-short above 8"],
        ),
        ((4, 9, 9, 3), {}, {}, {"crop": "random"}, ["crop random", "8x8", "--short-side", "--crop resized"]),
        ((4, 9, 9, 3), {}, {}, {"short_side": (7, 9)}, ["short_side 7", "7x7", "8x8", "8 or more"]),
    ],
)
def test_clips_that_do_not_fit_are_refused_with_the_way_out(shape, changes, views, augment, words):
    transform = transform_to(8, 8, ViewSpec(**views), AugmentSpec(**augment), **changes)
    with pytest.raises(ValueError, match=words[0]) as caught:
        transform.check(shape)
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(ValueError, match=words[0]):
        transform.view(noise(1, *shape), 0)


def test_a_size_that_the_model_does_not_take_is_refused():
    fixed = ModelInput(**{**vars(PLAIN), "any_size": False})
    with pytest.raises(ValueError, match="size 16x16 does not fit the model, which takes 8x8 only"):
        ClipTransform(fixed, (16, 16), ViewSpec(), AugmentSpec())


def test_small_frames_are_enlarged_when_asked():
    frames = noise(2, 2, 6, 7, 3)
    assert transform_to(8, 8, ViewSpec(resize_short=8)).view(frames, 0).shape == (2, 2, 3, 8, 8)
