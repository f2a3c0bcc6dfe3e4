"""Augmentations: the same for all frames of a clip, the same alone and in a batch, by the clip's own seeds."""

import numpy as np
import pytest
import torch
from place_pictures import AUGMENTS, BLACK, MEAN, STD, as_bytes, noise, pictures_of_places, seeds_of, transform_to
from torchvision.transforms.v2 import functional

from vidpipe.transform_spec import AugmentSpec, ViewSpec
from vidpipe.transforms.color import color_jitter

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("views", [ViewSpec(), ViewSpec(resize_short=18)])
def test_training_without_augmentation_sees_what_evaluation_sees(views):
    frames = noise(3, 4, 20, 26, 3)
    transform = transform_to(16, 16, views)
    assert torch.equal(transform.augmented(frames, seeds_of(3)), transform.view(frames, 0))


@pytest.mark.parametrize("name", AUGMENTS)
def test_an_augmented_clip_is_the_same_alone_and_in_any_batch(name):
    frames = noise(6, 3, 20, 26, 3)
    transform = transform_to(16, 16, ViewSpec(resize_short=18), AUGMENTS[name])
    together = transform.augmented(frames, seeds_of(6))
    assert together.shape == (6, 3, 3, 16, 16)
    for row in (0, 3, 5):
        assert torch.equal(transform.augmented(frames[row : row + 1], seeds_of(6)[row : row + 1])[0], together[row])
    order = [4, 1, 5]
    assert torch.equal(transform.augmented(frames[order], [seeds_of(6)[row] for row in order]), together[order])


@pytest.mark.parametrize("name", AUGMENTS)
def test_all_frames_of_a_clip_change_alike(name):
    frames = noise(8, 1, 20, 26, 3).expand(-1, 5, -1, -1, -1)
    clips = transform_to(16, 16, ViewSpec(resize_short=18), AUGMENTS[name]).augmented(frames, seeds_of(8))
    assert (clips == clips[:, :1]).all()


@pytest.mark.parametrize("name", [name for name in AUGMENTS if name != "nothing"])
def test_an_augmentation_changes_clips_by_their_seeds_within_the_range_of_pixels(name):
    frames = noise(1, 2, 20, 26, 3).expand(16, -1, -1, -1, -1)
    transform = transform_to(16, 16, ViewSpec(resize_short=18), AUGMENTS[name])
    clips = transform.augmented(frames, seeds_of(16))
    assert len({clip.numpy().tobytes() for clip in clips}) > 1
    other_epoch = transform.augmented(frames, [(7, 3, row) for row in range(16)])
    assert not torch.equal(clips, other_epoch)
    least, greatest = BLACK, torch.tensor([(1 - m) / s for m, s in zip(MEAN, STD, strict=True)])
    assert (clips.amin((0, 1, 3, 4)) >= least - 1e-5).all()
    assert (clips.amax((0, 1, 3, 4)) <= greatest + 1e-5).all()


def test_random_crops_are_places_of_the_frame_and_reach_all_of_them():
    frames = pictures_of_places(1, 2, 11, 12).expand(400, -1, -1, -1, -1)
    shown = as_bytes(
        transform_to(8, 8, ViewSpec(resize_short=11), AugmentSpec(crop="random")).augmented(frames, seeds_of(400))
    )
    corners = {(int(top), int(left)) for left, top in shown[:, 0, 0, 0, :2]}
    assert corners == {(top, left) for top in range(4) for left in range(5)}
    for picture, source in zip(shown, frames.numpy(), strict=True):
        left, top = picture[0, 0, 0, :2]
        np.testing.assert_array_equal(picture, source[:, top : top + 8, left : left + 8])


def test_a_flip_mirrors_columns_as_often_as_asked():
    frames = pictures_of_places(400, 2, 8, 8)
    shown = as_bytes(transform_to(8, 8, augment=AugmentSpec(flip=0.25)).augmented(frames, seeds_of(400)))
    flipped = shown[:, 0, 0, 0, 0] == 7
    np.testing.assert_array_equal(shown[flipped], frames[flipped].flip(3).numpy())
    np.testing.assert_array_equal(shown[~flipped], frames[~flipped].numpy())
    assert 60 <= flipped.sum() <= 140
    always = transform_to(8, 8, augment=AugmentSpec(flip=1.0)).augmented(frames, seeds_of(400))
    np.testing.assert_array_equal(as_bytes(always), frames.flip(3).numpy())


def test_a_shift_moves_whole_pixels_up_to_its_share_and_leaves_black():
    frames = pictures_of_places(300, 2, 10, 20) + 1  # 0, black, is no place
    shown = as_bytes(transform_to(10, 20, augment=AugmentSpec(translate=0.2)).augmented(frames, seeds_of(300)))
    seen = set()
    for picture in shown:
        rows = slice(*(np.flatnonzero(picture[0, :, :, 0].any(1))[[0, -1]] + [0, 1]))
        columns = slice(*(np.flatnonzero(picture[0, :, :, 0].any(0))[[0, -1]] + [0, 1]))
        left, top = picture[0, rows.start, columns.start, :2] - 1
        down, right = rows.start - top, columns.start - left
        expected = np.zeros_like(picture)
        expected[:, rows, columns] = frames[0, :, rows.start - down : rows.stop - down][
            :, :, columns.start - right : columns.stop - right
        ]
        np.testing.assert_array_equal(picture, expected)
        seen.add((int(down), int(right)))
    assert {down for down, _ in seen} == set(range(-2, 3))
    assert {right for _, right in seen} == set(range(-4, 5))


def test_an_erased_box_is_the_mean_colour_in_all_frames():
    frames = pictures_of_places(50, 3, 16, 16)
    clips = transform_to(16, 16, augment=AugmentSpec(erase=1.0)).augmented(frames, seeds_of(50))
    plain = transform_to(16, 16).view(frames, 0)
    erased = (clips == 0).all(dim=2)  # (B, T, h, w)
    assert torch.equal(erased, erased[:, :1].expand_as(erased))
    assert torch.equal(torch.where(erased[:, :, None], plain, clips), plain)
    shares = erased[:, 0].float().mean((1, 2))
    assert shares.min() > 0
    assert shares.max() < 0.45
    for mask in erased[:, 0].numpy():
        assert mask[mask.any(1)][:, mask.any(0)].all(), "a box"


def test_a_random_short_side_shows_between_the_least_and_the_greatest_part_of_the_frame():
    frames = pictures_of_places(200, 1, 64, 64)
    augment = AugmentSpec(crop="random", short_side=(32, 64))
    clips = transform_to(16, 16, augment=augment).augmented(frames, seeds_of(200))
    red = clips[:, 0, 0] * STD[0] + MEAN[0]
    shown_px = (red[:, 0, -1] - red[:, 0, 0]) * 255 * 16 / 15
    assert 14 <= shown_px.min() <= 18  # short side 64: 16 of 64 columns
    assert 28 <= shown_px.max() <= 34  # short side 32: 32 of 64 columns


def test_a_resized_crop_shows_parts_of_the_area_that_was_asked_for():
    frames = pictures_of_places(300, 1, 60, 80)
    clips = transform_to(16, 16, augment=AugmentSpec(crop="resized", area=(0.25, 0.5))).augmented(frames, seeds_of(300))
    pixels = (clips[:, 0].permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)) * 255
    width = (pixels[:, 0, -1, 0] - pixels[:, 0, 0, 0]) * 16 / 15
    height = (pixels[:, -1, 0, 1] - pixels[:, 0, 0, 1]) * 16 / 15
    share = width * height / (60 * 80)
    assert share.min() > 0.2
    assert share.max() < 0.57
    assert (width / height).min() > 0.6
    assert (width / height).max() < 1.55
    assert share.max() - share.min() > 0.15


def test_colour_jitter_multiplies_brightness_by_factors_of_its_range():
    gray = torch.full((200, 2, 8, 8, 3), 100, dtype=torch.uint8)  # contrast and saturation keep an even gray
    clips = transform_to(8, 8, augment=AugmentSpec(color_jitter=0.4)).augmented(gray, seeds_of(200))
    values = ((clips * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255).flatten(1)
    assert (values - values[:, :1]).abs().max() < 0.01
    assert 59.9 < values.min() < 65
    assert 135 < values.max() < 140.1


def test_colour_jitter_is_torchvisions_operations_one_after_the_other():
    clip = noise(3, 3, 8, 10)
    changed = color_jitter(clip, 0.4, np.random.default_rng(5))
    rng, expected = np.random.default_rng(5), clip / 255
    operations = functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation
    for index in rng.permutation(3):
        expected = operations[index](expected, rng.uniform(0.6, 1.4))
    torch.testing.assert_close(changed, expected * 255, rtol=0, atol=1e-3)
    assert (changed - clip).abs().max() > 5


def test_as_many_seeds_as_clips_are_needed():
    with pytest.raises(ValueError, match="3 clips need as many seeds, got 2"):
        transform_to(8, 8).augmented(noise(3, 2, 8, 8, 3), seeds_of(2))
