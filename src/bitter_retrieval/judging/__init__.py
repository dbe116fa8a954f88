"""Judges of whether an answer is correct (a rule, Gemini, a language model on this machine), and their agreement."""
