"""Commands that need no Ray: complexity, rate-distortion, lmms-eval."""
