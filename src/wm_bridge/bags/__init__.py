"""Recordings of the graph: opening whole and cut-off bags, pictures out of them."""
