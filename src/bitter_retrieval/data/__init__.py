"""Where questions come from: the generated world, SQuAD, MS MARCO, files of one's own; and how they are split."""
