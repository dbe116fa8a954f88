"""Sources of questions (the generated world, SQuAD, MS MARCO, your own files) and their division into splits."""
