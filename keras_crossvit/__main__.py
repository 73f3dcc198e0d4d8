"""`python -m keras_crossvit`."""

import sys

from keras_crossvit.cli import main

if __name__ == "__main__":
    sys.exit(main())
