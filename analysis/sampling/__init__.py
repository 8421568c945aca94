"""Numerics of resampling and of rate-accuracy curves: bootstrap, PCHIP, BD-rate."""
