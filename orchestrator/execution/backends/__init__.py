"""What trains a job and evaluates its point: a trial's own process, or Ray Train's workers."""
