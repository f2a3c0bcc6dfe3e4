"""Against plain numpy and against pictures whose pixels say where they come from: red is the column, green the row."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from vidpipe.model_spec import ModelInput
from vidpipe.transform_spec import AugmentSpec, ViewSpec
from vidpipe.transforms import ClipTransform
from vidpipe.transforms.color import color_jitter
from vidpipe.transforms.geometry import scaled_size

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLACK = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)])
PLAIN = ModelInput(height=8, width=8, any_size=True, num_frames=None, min_frames=1, mean=MEAN, std=STD)
AUGMENTS = {
    "nothing": AugmentSpec(),
    "random crop": AugmentSpec(crop="random"),
    "short side": AugmentSpec(crop="random", short_side=(18, 24)),
    "short side, centre": AugmentSpec(short_side=(16, 32)),
    "resized": AugmentSpec(crop="resized"),
    "flip": AugmentSpec(flip=0.5),
    "translate": AugmentSpec(translate=0.3),
    "colour": AugmentSpec(color_jitter=0.4),
    "RandAugment": AugmentSpec(rand_augment=3, magnitude=15),
    "erase": AugmentSpec(erase=0.5),
    "all": AugmentSpec(
        crop="random", short_side=(18, 24), flip=0.5, translate=0.1, color_jitter=0.4, rand_augment=2, erase=0.5
    ),
}


@pytest.fixture(autouse=True)
def one_thread():
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def pictures_of_places(num_clips: int, num_frames: int, height: int, width: int) -> torch.Tensor:
    """Red is the column, green the row, blue the frame: (B, T, H, W, 3)."""
    rows, columns = np.mgrid[:height, :width]
    frames = [np.stack([columns, rows, np.full_like(rows, frame)], axis=-1) for frame in range(num_frames)]
    return torch.from_numpy(np.stack([np.stack(frames)] * num_clips).astype(np.uint8))


def as_bytes(clips: torch.Tensor) -> np.ndarray:
    """The pixels 0 to 255 that a normalised (B, T, 3, h, w) shows, as (B, T, h, w, 3), each within 0.01 of a byte."""
    pixels = clips.permute(0, 1, 3, 4, 2).numpy().astype(np.float64)
    pixels = (pixels * STD + MEAN) * 255
    assert np.abs(pixels - pixels.round()).max() < 0.01
    return pixels.round().astype(int)


def transform_to(height: int, width: int, views=None, augment=None, **changes) -> ClipTransform:
    model_input = ModelInput(**{**vars(PLAIN), "height": height, "width": width, **changes})
    return ClipTransform(model_input, (height, width), views or ViewSpec(), augment or AugmentSpec())


def seeds_of(num_clips: int) -> list[tuple[int, int, int]]:
    return [(7, 2, row) for row in range(num_clips)]


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
