"""How the teacher and the MLLM of the world of scenes were trained."""
