"""Training a codec or an operating point: data flow, loop, checkpoints."""
