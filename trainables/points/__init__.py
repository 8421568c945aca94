"""Operating points: what the computing halves of scenarios are made of, and their contract."""
