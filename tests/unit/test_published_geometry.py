"""The default scaling and crop are those of the published evaluation: against torchvision's own word."""

import pytest
import torch
import torchvision
from place_pictures import MEAN, STD, noise
from small_models import LABELS, SPECS

from vidpipe.model_spec import ModelInput, ModelSpec
from vidpipe.models import build_empty
from vidpipe.models.torchvision_networks import LITE_INPUT
from vidpipe.transform_spec import AugmentSpec, ViewSpec
from vidpipe.transforms import ClipTransform
from vidpipe.transforms.published import evaluation_text, published_short, training_text

pytestmark = pytest.mark.usefixtures("one_thread")

R3D = ModelInput(112, 112, True, None, 1, MEAN, STD, resize_short=128)
# As torchvision 0.29 and the hub publish them: a change of theirs shows here, and is a change of everybody's defaults.
TABLE = {
    ("conv3d", "r3d_18"): (128, 112),
    ("conv3d", "mc3_18"): (128, 112),
    ("conv3d", "r2plus1d_18"): (128, 112),
    ("conv3d", "s3d"): (256, 224),
    ("conv3d", "mvit_v2_s"): (256, 224),
    ("conv3d", "swin3d_t"): (256, 224),
    ("frame_vote", "resnet18"): (256, 224),
    ("frame_vote", "resnet50"): (232, 224),
    ("cnn_rnn", "efficientnet_lite0"): (256, 224),
    ("cnn_rnn", "efficientnet_b5"): (456, 456),
    ("transformer", "videomae"): (224, 224),
    ("transformer", "timesformer"): (224, 224),
    ("transformer", "vivit"): (256, 224),
    ("transformer", "vjepa2"): (292, 256),
}


@pytest.mark.parametrize(("model", "backbone"), TABLE)
def test_each_model_has_the_geometry_of_its_published_weights(model, backbone):
    with torch.device("meta"):
        shown = build_empty(ModelSpec(model=model, backbone=backbone, weights="none"), LABELS).input
    assert (shown.resize_short, shown.height) == TABLE[model, backbone]


VIDEO_NAMES = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b")


@pytest.mark.parametrize("backbone", [*VIDEO_NAMES, "resnet18", "resnet50", "convnext_tiny", "inception_v3", "vgg16"])
def test_a_default_view_is_the_input_that_torchvisions_own_transforms_make(backbone):
    kind = "conv3d" if backbone in VIDEO_NAMES else "frame_vote"
    theirs = torchvision.models.get_model_weights(backbone).DEFAULT.transforms()
    with torch.device("meta"):
        model_input = build_empty(ModelSpec(model=kind, backbone=backbone, weights="none"), LABELS).input
    size = model_input.height, model_input.width
    frame = tuple(theirs.resize_size) if len(theirs.resize_size) == 2 else (theirs.resize_size[0], 400)
    num_frames = model_input.num_frames or model_input.min_frames
    frames = noise(1, num_frames, *frame, 3)
    views = ViewSpec(resize_short=published_short(model_input, frame, size))
    clips = ClipTransform(model_input, size, views, AugmentSpec()).view(frames)
    expected = theirs(frames[0].permute(0, 3, 1, 2))  # (T, C, H, W) -> videos (C, T, H, W), images (T, C, H, W)
    expected = expected.transpose(0, 1) if kind == "conv3d" else expected
    torch.testing.assert_close(clips[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("frame", "crop", "short"),
    [
        ((128, 171), (112, 112), 128),
        ((171, 128), (112, 112), 128),
        ((240, 320), (112, 112), 128),
        ((120, 160), (112, 112), 120),  # smaller than the published 128: never enlarged
        ((128, 128), (112, 112), 128),
        ((112, 112), (112, 112), None),  # nothing to leave around the crop: as ever
        ((112, 200), (112, 112), None),
        ((64, 64), (112, 112), None),  # too small: the check says so
        ((64, 64), (32, 32), 37),  # another --size: as much around it, in proportion
        ((256, 341), (224, 224), 256),
        ((64, 96), (32, 48), 37),
    ],
)
def test_frames_are_scaled_as_the_weights_saw_them_and_never_enlarged(frame, crop, short):
    assert published_short(R3D, frame, crop) == short


def test_a_model_without_published_weights_sees_frames_that_just_cover_the_crop():
    plain = ModelInput(112, 112, True, None, 1, MEAN, STD)
    assert published_short(plain, (240, 320), (112, 112)) is None


def test_the_first_training_command_of_the_readme_crops_from_all_places_that_its_clips_have():
    """Clips of 128x171, r3d_18, `--crop random`: 17 x 60 places, where frames that just cover the crop have 1 x 38."""
    places = {}
    for short in (published_short(R3D, (128, 171), (112, 112)), None):
        augment = AugmentSpec(crop="random")
        transform = ClipTransform(R3D, (112, 112), ViewSpec(resize_short=short), augment)
        column, row = torch.arange(171).expand(128, 171), torch.arange(128).view(-1, 1).expand(128, 171)
        frames = torch.stack([column, row, row], -1).to(torch.uint8).expand(600, 1, 128, 171, 3)
        clips = transform.augmented(frames, [(0, 0, index) for index in range(600)])
        corners = (clips[:, 0, :2, 0, 0] * torch.tensor(STD[:2]) + torch.tensor(MEAN[:2])) * 255
        left, top = corners.round().int().T
        places[short] = len(top.unique()), len(left.unique())
    assert places == {128: (17, 60), None: (1, 38)}


@pytest.mark.parametrize(
    ("frame", "crop", "views", "augment", "trained", "evaluated"),
    [
        ((112, 112), (112, 112), {}, {}, "takes all of it", "takes all of it"),
        ((64, 64), (32, 32), {}, {}, "scales to 32x32 and takes all of it", "scales to 32x32 and takes all of it"),
        (
            *((240, 320), (112, 112), {"resize_short": 128, "crops": 3}, {"crop": "random"}),
            "scales to 128x170 and takes 112x112 at one of 17 x 59 places",
            "scales to 128x170 and takes 3 crops of 112x112",
        ),
        (
            *((256, 340), (224, 224), {}, {"crop": "random", "short_side": (256, 320)}),
            "scales to a short side of 256 to 320 and takes a random crop of 224x224",
            "scales to 224x297 and takes the centre 224x224",
        ),
        (
            *((128, 171), (112, 112), {"resize_short": 128}, {"crop": "resized"}),
            "takes 8 to 100 % of the frame and scales that to 112x112",
            "takes the centre 112x112",
        ),
    ],
)
def test_the_geometry_is_told_as_it_is(frame, crop, views, augment, trained, evaluated):
    views, augment = ViewSpec(**views), AugmentSpec(**augment)
    assert training_text(frame, crop, views, augment) == trained
    assert evaluation_text(frame, crop, views) == evaluated


def test_a_folder_of_transformers_says_its_own_geometry(tmp_path):
    from transformers import VideoMAEVideoProcessor

    spec = SPECS["transformer, videomae"]
    network = build_empty(spec, LABELS)
    network.config.save_pretrained(tmp_path)
    for size, short in (({"shortest_edge": 40}, 40), ({"height": 32, "width": 32}, 32)):
        VideoMAEVideoProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
        at_hand = ModelSpec(model="transformer", backbone=str(tmp_path), weights="none")
        assert build_empty(at_hand, LABELS).input.resize_short == short


def test_the_lite_networks_border_is_that_of_their_authors():
    assert (LITE_INPUT.resize_short, LITE_INPUT.height) == (224 + 32, 224)
