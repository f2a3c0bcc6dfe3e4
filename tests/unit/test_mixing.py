import numpy as np
import pytest
import torch

from vidpipe.transform_spec import AugmentSpec
from vidpipe.transforms import mix
from vidpipe.transforms.color import OPERATIONS, SIGNED

SEEDS = [(3, 0, row) for row in range(40)]


def clips_and_targets(num_clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clip number n has the value n everywhere and the label n."""
    clips = torch.arange(num_clips, dtype=torch.float32).view(-1, 1, 1, 1, 1).expand(-1, 3, 3, 8, 10).clone()
    return clips, torch.eye(num_clips)


def test_mixup_blends_a_pair_and_its_labels_by_the_same_share():
    clips, targets = clips_and_targets(40)
    mixed, shares = mix(clips.clone(), targets, SEEDS, AugmentSpec(mixup=0.8))
    kept = torch.stack([shares[row, row] for row in range(40)])
    assert len(set(kept.tolist())) > 15, "each pair draws its own share"
    torch.testing.assert_close(shares.sum(1), torch.ones(40))
    for row in range(40):
        partner = row ^ 1
        expected = kept[row] * row + (1 - kept[row]) * partner
        torch.testing.assert_close(mixed[row], torch.full_like(mixed[row], float(expected)))
        torch.testing.assert_close(shares[row, partner], 1 - kept[row])
        torch.testing.assert_close(kept[row], kept[partner])


def test_cutmix_swaps_the_same_box_in_all_frames_and_the_labels_by_its_area():
    clips, targets = clips_and_targets(40)
    mixed, shares = mix(clips.clone(), targets, SEEDS, AugmentSpec(cutmix=1.0))
    for row in range(40):
        foreign = mixed[row] == (row ^ 1)
        assert torch.equal(mixed[row], torch.where(foreign, float(row ^ 1), float(row)))
        assert torch.equal(foreign, foreign[:1, :1].expand_as(foreign))
        mask = foreign[0, 0].numpy()
        assert mask[mask.any(1)][:, mask.any(0)].all(), "a box"
        torch.testing.assert_close(shares[row, row], torch.tensor(1 - mask.mean(), dtype=torch.float32))
    assert 0.2 < float(shares.diagonal().mean()) < 0.9


def test_with_both_a_pair_takes_one_or_the_other():
    clips, targets = clips_and_targets(40)
    mixed, _ = mix(clips.clone(), targets, SEEDS, AugmentSpec(mixup=0.8, cutmix=1.0))
    blended = [bool((clip.frac() != 0).any()) for clip in mixed]
    assert 5 < sum(blended) < 35


@pytest.mark.parametrize("spec", [AugmentSpec(mixup=0.8), AugmentSpec(cutmix=1.0), AugmentSpec(mixup=0.8, cutmix=1.0)])
def test_a_pair_mixes_the_same_in_any_batch_and_an_odd_clip_stays_as_it_is(spec):
    clips, targets = clips_and_targets(7)
    mixed, shares = mix(clips.clone(), targets, SEEDS[:7], spec)
    alone, alone_shares = mix(clips[2:4].clone(), targets[2:4], SEEDS[2:4], spec)
    assert torch.equal(mixed[2:4], alone)
    assert torch.equal(shares[2:4], alone_shares)
    assert torch.equal(mixed[6], clips[6])
    assert torch.equal(shares[6], targets[6])
    assert torch.equal(targets, torch.eye(7)), "the targets that were given stay"


def picture(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("num_channels", [1, 3])
def test_an_operation_of_rand_augment_treats_each_frame_as_it_would_alone(name, num_channels):
    clip = 40 + picture(3, num_channels, 40, 30) // 2  # with room for more contrast
    changed = OPERATIONS[name](clip, 0.5)
    assert changed.shape == clip.shape
    assert changed.dtype == torch.uint8
    assert torch.equal(changed[1:2], OPERATIONS[name](clip[1:2], 0.5))
    assert torch.equal(changed, clip) == (name == "identity" or (name, num_channels) == ("saturation", 1))


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_an_operation_of_magnitude_0_changes_nothing(name):
    clip = picture(2, 3, 12, 14)
    assert torch.equal(OPERATIONS[name](clip, 0.0), clip)


def test_operations_reach_torchvisions_ends():
    clip = picture(2, 3, 12, 14)
    assert torch.equal(OPERATIONS["posterize"](clip, 1.0), clip & 0b11110000)
    assert torch.equal(OPERATIONS["solarize"](clip, 1.0), 255 - clip)
    moved = OPERATIONS["translate_x"](clip, 1.0)
    assert torch.equal(moved[..., 6:], clip[..., :-6])  # 150 of 331 of 14 pixels
    assert not moved[..., :6].any()
