"""Operating points: the contract of the computing halves of scenarios, and building blocks."""
