"""A small model of each kind, with random weights: what the tests of models and checkpoints build."""

from vidpipe.model_spec import ModelSpec

_TINY = ("hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2")
_TINY_IMAGE = (*_TINY, "intermediate_size=64", "image_size=32", "num_frames=4")
TRANSFORMERS = {
    "videomae": (*_TINY_IMAGE, "patch_size=8"),
    "timesformer": (*_TINY_IMAGE, "patch_size=8"),
    "vivit": (*_TINY_IMAGE, "tubelet_size=[2,8,8]"),
    "vjepa2": (
        *("hidden_size=48", "num_hidden_layers=2", "num_attention_heads=2", "mlp_ratio=2", "patch_size=8"),
        *("crop_size=32", "frames_per_clip=4", "num_pooler_layers=1", "pred_hidden_size=24"),
        *("pred_num_attention_heads=2", "pred_num_hidden_layers=1"),
    ),
}
SPECS = {
    "frame_vote": ModelSpec(model="frame_vote", weights="none"),
    "frame_vote, mlp and vote": ModelSpec(
        model="frame_vote", backbone="mobilenet_v3_small", weights="none", head="mlp", mlp_sizes=(32, 16), join="vote"
    ),
    "cnn_rnn": ModelSpec(model="cnn_rnn", weights="none"),
    "cnn_rnn, gru": ModelSpec(model="cnn_rnn", backbone="efficientnet_lite0", weights="none", rnn="gru", rnn_layers=2),
    "conv3d": ModelSpec(model="conv3d", backbone="s3d", weights="none"),
    **{
        f"transformer, {family}": ModelSpec(
            model="transformer", backbone=family, weights="none", model_config=model_config
        )
        for family, model_config in TRANSFORMERS.items()
    },
}
LABELS = ("left", "right", "up")
