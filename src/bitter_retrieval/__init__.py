"""Parts that the stages in src/ are made of: one small module a subject, divided by which stages use them."""

import os

# Libraries draw bars of their own, also where no terminal is; ours are in command_line.py.
os.environ.setdefault("TQDM_DISABLE", "1")

# GNU OpenMP reads this when torch is loaded: how long a thread spins before it sleeps. At its default, a second process
# on the same cores makes training ten times slower; at this, twice. Alone, both are equally fast.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
