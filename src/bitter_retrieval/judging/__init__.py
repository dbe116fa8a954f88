"""Who says whether an answer is correct: a rule, Gemini, or a language model on this machine; and how they agree."""
