from pathlib import Path

import av
import numpy as np
import pytest
from bad_videos import BAD_VIDEOS, good_video
from loadable import loadable
from small_videos import ODD_VIDEOS, write_pictures

import vidpipe.decode.packets
import vidpipe.decode.pyav
from vidpipe.decode import DECODERS, check_decoder, decoder_versions, open_video
from vidpipe.decode.packets import PacketIndex
from vidpipe.decode.pictures import know_pictures
from vidpipe.decode.pyav import IndexMismatch, PyavVideo
from vidpipe.decode.resize import Resizer
from vidpipe.errors import DecodeError, UsageError
from vidpipe.spec import ClipSpec
from vidpipe.synthetic import ENCODINGS

SMALL = ClipSpec(size="48x64", resize="squash")


def full_decode(path: Path, spec: ClipSpec) -> np.ndarray:
    """All frames by a plain sequential PyAV decode, (N, H, W, C)."""
    resize = Resizer(spec)
    with av.open(str(path)) as container:
        return np.stack([resize(picture) for picture in container.decode(container.streams.best("video"))])


def delivered(path: Path, spec: ClipSpec, indices: np.ndarray) -> np.ndarray:
    """Frames as the child process gets them: when the packets promised too much, the pictures are counted."""
    try:
        with open_video(str(path), spec) as video:
            return np.stack(list(video.frames(indices)))
    except IndexMismatch:
        counted = PyavVideo(str(path), spec, count=True)
        return np.stack(list(counted.frames(indices)))


def index_sets(num_frames: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(num_frames)
    subsets = {
        f"random {number}": np.sort(rng.choice(num_frames, rng.integers(1, num_frames + 1), replace=False))
        for number in range(3)
    }
    uniform = np.unique(((np.arange(16) + 0.5) * num_frames / 16).astype(int))
    ends = {"first": np.array([0]), "last": np.array([num_frames - 1])}
    return {"uniform": uniform, "all": np.arange(num_frames), **ends, **subsets}


def check_exact(path: Path) -> None:
    expected = full_decode(path, SMALL)
    with open_video(str(path), SMALL) as video:
        assert len(video.times_s) == len(expected)
        assert video.times_s[0] == 0.0
        assert (np.diff(video.times_s) > 0).all()
    for name, indices in index_sets(len(expected)).items():
        np.testing.assert_array_equal(delivered(path, SMALL, indices), expected[indices], name)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_frames_asked_for_are_those_of_a_full_decode(generated, encoding):
    check_exact(generated[encoding])


@pytest.mark.parametrize("path", ODD_VIDEOS, ids=lambda path: path.name)
def test_the_frames_of_an_odd_video_are_those_of_a_full_decode(path):
    check_exact(path)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("too_many", ["packets", "pictures", "packets and pictures"])
def test_videos_too_large_to_keep_in_memory_give_the_same_frames(generated, encoding, too_many, monkeypatch):
    if "packets" in too_many:
        monkeypatch.setattr(vidpipe.decode.packets, "HOLD_BYTES", 0)
    if "pictures" in too_many:
        monkeypatch.setattr(vidpipe.decode.pyav, "HOLD_BYTES", 0)
    check_exact(generated[encoding])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_counting_the_pictures_gives_the_same_frames_and_times_as_the_packets(generated, encoding):
    by_packets, counted = (PyavVideo(str(generated[encoding]), SMALL, count=count) for count in (False, True))
    np.testing.assert_allclose(by_packets.times_s, counted.times_s)
    np.testing.assert_array_equal(list(by_packets.frames([5, 6, 40])), list(counted.frames([5, 6, 40])))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_open_video_can_be_asked_again_and_backwards(generated, encoding):
    expected = full_decode(generated[encoding], SMALL)
    with open_video(str(generated[encoding]), SMALL) as video:
        for indices in ([40, 47], [0, 13], range(48), [47], [1]):
            np.testing.assert_array_equal(list(video.frames(indices)), expected[indices])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_times_are_those_of_the_frame_rate(generated, encoding):
    with open_video(str(generated[encoding]), SMALL) as video:
        np.testing.assert_allclose(video.times_s, np.arange(48) / 25, atol=1.1e-3)  # Matroska rounds to 1 ms


def test_times_of_a_video_with_a_variable_frame_rate_are_its_own(tmp_path):
    stamps = [0, 40, 80, 400, 1000, 1040]
    path = tmp_path / "variable.mp4"
    write_pictures(path, [np.full((64, 64, 3), 40 * number, np.uint8) for number in range(6)], stamps_ms=stamps)
    with open_video(str(path), SMALL) as video:
        np.testing.assert_allclose(video.times_s, np.array(stamps) / 1000)
    check_exact(path)


def test_size_and_codec_are_known_after_the_first_frame(generated):
    with open_video(str(generated["hevc_mp4"]), SMALL) as video:
        next(video.frames([0]))
        assert (video.codec, video.height, video.width) == ("hevc", 96, 128)


@pytest.fixture(params=["decord", "torchcodec"])
def peer(request) -> str:
    return loadable(request.param)


def test_torchcodec_without_ffmpeg_is_refused_and_no_video_is_blamed(generated, monkeypatch):
    torchcodec = pytest.importorskip("torchcodec", exc_type=(ImportError, OSError, RuntimeError))
    monkeypatch.setattr(torchcodec, "ffmpeg_major_version", None)  # as it is where the libraries are missing
    with pytest.raises(UsageError, match=r"no FFmpeg.*apt-get install ffmpeg.*--decoder pyav"):
        check_decoder("torchcodec")
    with pytest.raises(ImportError, match="no FFmpeg"):
        open_video(str(generated["h264_mp4"]), ClipSpec(decoder="torchcodec"))


def test_a_peer_gives_nearly_the_pixels_of_pyav(peer, generated):
    path, wanted = generated["h264_mp4"], [0, 13, 14, 47]
    with open_video(str(path), SMALL) as ours, open_video(str(path), ClipSpec(**spec_of(peer))) as theirs:
        np.testing.assert_allclose(theirs.times_s, ours.times_s, atol=1e-4)
        expected, found = (np.stack(list(video.frames(wanted))).astype(int) for video in (ours, theirs))
        assert (theirs.codec, theirs.height, theirs.width) == (ours.codec, ours.height, ours.width)
    assert found.shape == expected.shape
    # Far below the difference between two frames: they are the same frames.
    assert abs(found - expected).mean() < 2 < abs(expected[0] - expected[1]).mean()


def spec_of(decoder: str) -> dict[str, object]:
    return {"size": SMALL.size, "resize": SMALL.resize, "decoder": decoder}


def test_a_peer_delivers_gray_and_any_size(peer, generated):
    with open_video(str(generated["h264_mkv"]), ClipSpec(decoder=peer, color="gray", size="31x57")) as video:
        assert next(video.frames([0])).shape == (31, 57, 1)


@pytest.mark.parametrize("name", ["hls_playlist.mp4", "ffconcat.avi", "sdp.mp4", "dash_mpd.mp4"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_no_decoder_follows_a_playlist(decoder, name, tmp_path):
    loadable(decoder)
    BAD_VIDEOS[name][0](tmp_path / name, np.random.default_rng(0))
    with pytest.raises(DecodeError, match="playlist") as refused:
        open_video(str(tmp_path / name), ClipSpec(decoder=decoder))
    assert refused.value.code == "forbidden"


@pytest.mark.parametrize("name", ["text.mp4", "moov_last_50.mp4", "audio_aac.mp4", "faststart_50.mp4"])
def test_a_peer_answers_a_bad_video_with_the_same_code(peer, name, tmp_path):
    write, answer = BAD_VIDEOS[name]
    write(tmp_path / name, np.random.default_rng(0))
    with pytest.raises(DecodeError) as refused:
        open_video(str(tmp_path / name), ClipSpec(decoder=peer))
    assert refused.value.code == answer


def test_a_damaged_picture_is_never_delivered(tmp_path):
    path, whole = tmp_path / "zeroed_middle.mp4", tmp_path / "whole.mp4"
    BAD_VIDEOS[path.name][0](path, np.random.default_rng(0))
    whole.write_bytes(good_video(np.random.default_rng(0), ENCODINGS["h264_mp4"]))
    expected = full_decode(whole, SMALL)
    codes = []
    for index in range(len(expected)):
        try:
            (frame,) = delivered(path, SMALL, np.array([index]))
        except DecodeError as error:
            codes.append(error.code)
        else:
            np.testing.assert_array_equal(frame, expected[index])
    assert set(codes) == {"corrupt"}
    assert 10 < len(codes) < len(expected) - 20


def test_packets_that_are_all_to_be_dropped_promise_no_picture():
    """A damaged edit list says so; then only a full decode can tell."""
    index = PacketIndex(pts=[0, 1], is_key=[True, False], is_discard=[True, True], size=[99, 99], header=[None, None])
    facts = {"format_name": "mov,mp4,m4a,3gp,3g2,mj2", "codec": "hevc", "is_interlaced": False, "may_reorder": True}
    assert know_pictures(index, **facts) is None
    index.is_discard = [True, False]
    assert know_pictures(index, **facts).in_order.tolist() == [1]


def test_decoder_versions_name_the_library_and_its_ffmpeg():
    assert decoder_versions("pyav")["pyav"] == av.__version__
    assert "libavcodec" in decoder_versions("pyav")


def test_an_avi_whose_riff_length_is_wrong_is_whole(generated, tmp_path):
    data = bytearray(generated["mpeg4_avi"].read_bytes())
    data[4:8] = (len(data) + 100).to_bytes(4, "little")
    path = tmp_path / "overstated.avi"
    path.write_bytes(data)
    with open_video(str(path), ClipSpec()) as video:
        assert len(list(video.frames([0, 47]))) == 2
