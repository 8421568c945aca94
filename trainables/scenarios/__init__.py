"""What each scenario trains, and how a trained point turns an image into an encoder input."""
