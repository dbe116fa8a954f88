"""What a profile costs before it is run: amounts, shapes of models, measured rates."""
