"""What is searched for a question, what is found, and what a reader answers from it."""
