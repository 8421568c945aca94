"""How the teacher and the MLLM of the second made world were trained."""
