"""The package behind the scripts in src/: a room (folder) a subject; the modules at its top are shared by rooms."""

import os

# Libraries draw progress bars even without a terminal; ours are in command_line.py.
os.environ.setdefault("TQDM_DISABLE", "1")

# GNU OpenMP reads this when torch is loaded: how long a thread spins before it sleeps. With the default, a second
# process on the same cores slows training tenfold; with this value, twofold. Alone, both are equally fast.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
