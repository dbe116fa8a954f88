"""From a run's labels to a trained encoder: losses, objective, loop, state, several processes, the reranker."""
