"""Jobs as trials of Ray Tune: which job runs next, and what its process does."""
