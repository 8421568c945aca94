"""What a sweep has to compute, in which order, and with which resources."""
