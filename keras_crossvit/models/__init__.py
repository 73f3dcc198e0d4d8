"""The model: configuration, published variants, graph, class, and the functions that build and load it."""
