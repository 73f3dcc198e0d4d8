"""Python reads this when it starts. Keras and TensorFlow import these libraries, and do without them where they are not
installed, as most users have it; in the tests' processes they are not, which halves the time of that import."""

import os
import sys

backend = os.environ.get("KERAS_BACKEND")
sys.modules.update(dict.fromkeys({"jax", "pandas", "sklearn"} - {backend}))
