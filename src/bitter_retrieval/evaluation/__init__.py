"""Retrieval for questions, and the readers' answers from the passages found."""
