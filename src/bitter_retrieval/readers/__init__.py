"""The frozen causal language model: prompts, answer losses, generated answers, and a small one fitted here."""
