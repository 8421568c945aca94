"""How the teacher and the MLLM of the world of tables were trained."""
