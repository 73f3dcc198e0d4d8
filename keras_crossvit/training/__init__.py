"""Training runs: recipes, exact resuming, what a run leaves behind, and evaluation."""
