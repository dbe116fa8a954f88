"""The package behind the scripts in src/: a room (folder) a subject; the modules at its top are shared by rooms.

Whatever imports it first sets what libraries read as they are loaded; a variable that is set already stays. Scripts
import it before other packages: outside the environment they end with a sentence, not with a traceback.
"""

import os
import sys
from importlib.util import find_spec

# Libraries draw progress bars even without a terminal; ours are in command_line.py.
os.environ.setdefault("TQDM_DISABLE", "1")

# GNU OpenMP reads this when torch is loaded: how long a thread spins before it sleeps. With the default, a second
# process on the same cores slows training tenfold; with this value, twofold. Alone, both are equally fast.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

# Matrix products, torch's own operations and oneDNN each choose kernels by processor, and kernels add in different
# orders. With these, processors differ in few sizes (docs/processors.md). STRICT: nor do threads change a product.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

NEEDED = ("huggingface_hub", "numpy", "psutil", "pyarrow", "rich", "torch", "transformers")
if absent := [name for name in NEEDED if find_spec(name) is None]:
    sys.exit(
        f"error: {sys.executable} is not the project's environment, as {', '.join(absent)} is missing. "
        "`make .venv/installed` makes .venv, once; `source .venv/bin/activate` enters it."
    )
