"""Sets the clock back three days at the time CLOCK_BACK_AT, for every Python that starts here."""

import os
import time

true, moment = time.time, float(os.environ.get("CLOCK_BACK_AT", "inf"))
time.time = lambda: true() - 3 * 86400 * (true() >= moment)
