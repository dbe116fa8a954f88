"""Parts that the stages in src/ are made of: one small module a subject, divided by which stages use them."""

import os

# OpenMP reads this when torch is loaded. Threads that spin while they wait make two processes on the same cores many
# times slower than one after the other; asleep, they cost nothing measurable.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
