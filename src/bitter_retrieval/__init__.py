"""Parts that the stages in src/ are made of: one small module a subject, divided by which stages use them."""
