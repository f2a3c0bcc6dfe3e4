"""How a picture becomes a frame: turned as it is shown, cut, padded or squashed, gray or in colour."""

from pathlib import Path

import av
import numpy as np
import pytest
from small_videos import ODD_VIDEOS, write_pictures

from vidpipe.decode import open_video
from vidpipe.decode.resize import Resizer, fit, scaled_size
from vidpipe.spec import ClipSpec

SMALL = ClipSpec(size="48x64", resize="squash")
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
PHONE_SIZES = {"video_0": (320, 568), "video_90": (568, 320), "video_180": (320, 568), "video_270": (568, 320)}


def quarters(height: int, width: int) -> np.ndarray:
    """A picture of four colours: red top left, green top right, blue bottom left, white bottom right."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


def first_frame(path: Path, **settings) -> np.ndarray:
    with open_video(str(path), ClipSpec(**settings)) as video:
        return next(video.frames([0])).astype(int)


def corners(frame: np.ndarray) -> list[tuple[int, ...]]:
    """Colours some way inside the four corners, rounded to full and none: top left, top right, bottom left, …"""
    y, x = frame.shape[0] // 8, frame.shape[1] // 8
    found = [frame[y, x], frame[y, -1 - x], frame[-1 - y, x], frame[-1 - y, -1 - x]]
    return [tuple(int(value > 127) * 255 for value in colour) for colour in found]


@pytest.mark.parametrize(
    ("rotation", "expected", "shown"),
    [
        (0, [RED, GREEN, BLUE, WHITE], (64, 96)),
        (90, [GREEN, WHITE, RED, BLUE], (96, 64)),  # counter-clockwise: the right side comes to the top
        (180, [WHITE, BLUE, GREEN, RED], (64, 96)),
        (270, [BLUE, RED, WHITE, GREEN], (96, 64)),
    ],
)
@pytest.mark.parametrize("resize", ["squash", "crop", "letterbox"])
def test_rotation_in_the_metadata_is_applied(tmp_path, rotation, expected, shown, resize):
    path = tmp_path / "rotated.mp4"
    write_pictures(path, [quarters(64, 96)] * 2, rotation=rotation)
    spec = ClipSpec(size=f"{shown[0]}x{shown[1]}", resize=resize)
    with open_video(str(path), spec) as video:
        assert corners(next(video.frames([0]))) == expected
        assert (video.height, video.width) == shown


@pytest.mark.parametrize("path", [path for path in ODD_VIDEOS if path.stem in PHONE_SIZES], ids=lambda path: path.name)
def test_a_phone_video_has_the_size_at_which_it_is_shown(path):
    with open_video(str(path), SMALL) as video:
        next(video.frames([0]))
        assert (video.height, video.width) == PHONE_SIZES[path.stem]


def test_squash_fills_the_frame_with_the_whole_picture(tmp_path):
    write_pictures(tmp_path / "a.mp4", [quarters(64, 128)] * 2)
    frame = first_frame(tmp_path / "a.mp4", size="40x40", resize="squash")
    np.testing.assert_allclose(frame, quarters(40, 40), atol=2)


def test_crop_cuts_the_centre(tmp_path):
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :32], picture[:, 32:96], picture[:, 96:] = RED, GREEN, BLUE
    write_pictures(tmp_path / "a.mp4", [picture] * 2)
    np.testing.assert_allclose(first_frame(tmp_path / "a.mp4", size="64", resize="crop"), [[GREEN] * 64] * 64, atol=2)
    wide = first_frame(tmp_path / "a.mp4", size="32x64", resize="crop")  # the same shape: nothing is cut
    np.testing.assert_allclose(wide[5, [0, 15, 16, 47, 48, 63]], [RED, RED, GREEN, GREEN, BLUE, BLUE], atol=2)


def test_crop_of_a_portrait_cuts_top_and_bottom(tmp_path):
    picture = np.zeros((128, 64, 3), np.uint8)
    picture[:32], picture[32:96], picture[96:] = RED, GREEN, BLUE
    write_pictures(tmp_path / "a.mp4", [picture] * 2)
    np.testing.assert_allclose(first_frame(tmp_path / "a.mp4", size="32", resize="crop"), [[GREEN] * 32] * 32, atol=2)


def test_letterbox_pads_with_black(tmp_path):
    write_pictures(tmp_path / "a.mp4", [quarters(64, 128)] * 2)
    frame = first_frame(tmp_path / "a.mp4", size="80", resize="letterbox")
    assert (frame[:20] == 0).all()
    assert (frame[60:] == 0).all()
    np.testing.assert_allclose(frame[20:60], quarters(40, 80), atol=2)
    pillars = first_frame(tmp_path / "a.mp4", size="32x80", resize="letterbox")
    assert (pillars[:, :8] == 0).all()
    assert (pillars[:, 72:] == 0).all()
    np.testing.assert_allclose(pillars[:, 8:72], quarters(32, 64), atol=2)


@pytest.mark.parametrize("resize", ["squash", "crop", "letterbox"])
@pytest.mark.parametrize("source", [(64, 64), (33, 97), (121, 17), (2, 200), (1, 1)])
@pytest.mark.parametrize("size", ["1", "7x13", "31", "300x20", "224"])
def test_any_picture_size_becomes_any_frame_size(source, size, resize):
    spec = ClipSpec(size=size, resize=resize)
    frame = Resizer(spec)(av.VideoFrame.from_ndarray(np.full((*source, 3), 200, np.uint8), format="rgb24"))
    assert frame.shape == (spec.height, spec.width, 3)
    shown = frame if resize != "letterbox" else frame[frame.any(axis=2)]  # without the black
    assert shown.size
    assert (abs(shown.astype(int) - 200) <= 2).all()


@pytest.mark.parametrize("resize", ["crop", "letterbox"])
@pytest.mark.parametrize("size", ["3", "17x31", "112", "171x128"])
def test_the_scaled_picture_covers_a_crop_and_fits_into_a_letterbox(resize, size):
    spec = ClipSpec(size=size, resize=resize)
    for height, width in [(1, 1), (240, 320), (1081, 1921), (7, 5000), (5000, 7)]:
        scaled = scaled_size(height, width, spec)
        within = np.array(scaled) >= spec.shape[1:3] if resize == "crop" else np.array(scaled) <= spec.shape[1:3]
        assert within.all()
        assert (np.array(scaled) == spec.shape[1:3]).any()
        assert fit(np.zeros((*scaled, 3), np.uint8), spec).shape == spec.shape[1:]


def test_gray_is_the_brightness_of_the_picture(generated):
    path = generated["h264_mp4"]
    gray = first_frame(path, color="gray", size="48x64", resize="squash")
    rgb = first_frame(path, size="48x64", resize="squash")
    assert gray.shape == (48, 64, 1)
    brightness = rgb @ [0.299, 0.587, 0.114]
    assert abs(gray[..., 0] - brightness).mean() < 3


def test_gray_is_rotated_and_cut_like_colour(tmp_path):
    write_pictures(tmp_path / "a.mp4", [quarters(64, 96)] * 2, rotation=90)
    gray = first_frame(tmp_path / "a.mp4", color="gray", size="96x64")[..., 0]
    assert gray[10, 40] > 240 > gray[10, 10] > gray[80, 10] > gray[80, 40]  # white, green, red, blue


def test_enlarging_keeps_the_picture_in_place(tmp_path):
    write_pictures(tmp_path / "a.mp4", [quarters(16, 16)] * 2)
    frame = first_frame(tmp_path / "a.mp4", size="64", resize="squash")
    assert corners(frame) == [RED, GREEN, BLUE, WHITE]
    np.testing.assert_allclose(frame[:24, :24], [[RED] * 24] * 24, atol=20)


def test_a_video_without_wanted_size_change_keeps_every_pixel(tmp_path):
    picture = np.random.default_rng(0).integers(256, size=(64, 96, 3), dtype=np.uint8)
    write_pictures(tmp_path / "a.mp4", [picture] * 2)
    np.testing.assert_array_equal(first_frame(tmp_path / "a.mp4", size="64x96"), picture)
