"""Facts about the world outside: encoder sizes, MLLM classes, CompressAI's models, prompt texts."""
