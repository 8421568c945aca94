"""Learned image codecs behind one contract; callers never ask which one they have.

              +-----+   y   +---------------+  y_hat  +-----+
    x  --->---| g_a |---->--| entropy model |---->----| g_s |--->--  x_hat
    (B,3,H,W) +-----+       +---------------+    |    +-----+      (B,3,H,W)
                                  | bytes        +--->--  neck (no image is decoded)

A family is one module with a function `build(settings) -> Codec` and one module of settings with
the same name in `search_spaces.codecs`. The networks are CompressAI's classes (with their
parameters' names and shapes), and TIC's.

Quantisation in the training pass, the same for all codecs (Minnen and Singh 2020, ICIP): `y_hat`,
which goes to `g_s` and to the neck, is rounded around its predicted means with straight-through
gradients, so it takes the values that a decoder gets; likelihoods are those of y plus uniform
noise. Only the context of the autoregressive models (mbt2018, cheng2020, TIC) is y plus noise, as
the means that rounding needs come after the context.

Outside training, `forward`, `latents`, `encode` and `decode` walk the entropy model in the same
way, so `y_hat` is the decoder's everywhere.

Shapes: B images, M latent channels, h = H/s and w = W/s latent positions with the codec's stride s,
H and W padded to what the entropy model needs.
"""

from trainables.codecs.building import build_codec
from trainables.codecs.codec import Codec, CodecOutput, LatentCodec, bits_estimated
from trainables.codecs.weights import (
    RECORD_FILE,
    WEIGHTS_FILE,
    fill,
    load_codec,
    load_weights,
    mismatches,
    save_codec,
    start_codec,
)

__all__ = [
    "RECORD_FILE",
    "WEIGHTS_FILE",
    "Codec",
    "CodecOutput",
    "LatentCodec",
    "bits_estimated",
    "build_codec",
    "fill",
    "load_codec",
    "load_weights",
    "mismatches",
    "save_codec",
    "start_codec",
]
