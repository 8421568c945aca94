"""In which precision, and how repeatably, devices compute."""
