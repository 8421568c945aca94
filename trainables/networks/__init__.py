"""The method's networks: transform-neck, U-Net, token codec, surrogate loss."""
