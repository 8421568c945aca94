"""The demo's world: handwritten digits on photographs, with captions, questions and boxes."""
