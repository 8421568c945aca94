"""Which job may run next, and the room of the jobs that run."""
