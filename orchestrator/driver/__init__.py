"""The driver process of a sweep: from a checked space to its report."""
