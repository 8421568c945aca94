"""Visual encoders: loading, running from block k on, text embeddings, zero-shot."""
