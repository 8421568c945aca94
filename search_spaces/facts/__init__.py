"""Facts about external models, tasks, texts: encoder sizes, MLLM classes, CompressAI's models."""
