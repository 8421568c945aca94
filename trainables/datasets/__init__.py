"""Images, scenes and benchmarks, and the rows that training reads from them."""
