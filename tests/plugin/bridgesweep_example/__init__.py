"""Extensions of bridgesweep by another distribution: a codec, two scenarios, a task."""
