"""Ray: trials, Train workers, data passes and evaluation actors."""
