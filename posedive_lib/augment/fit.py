"""`python -m posedive_lib.augment.fit`: the command of `posedive_lib.own_data.fit`."""

import sys

from posedive_lib.own_data.fit import main

if __name__ == "__main__":
    sys.exit(main())
