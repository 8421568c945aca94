"""Passes of Ray Data: images, teacher features and frozen latents, shard by shard."""
