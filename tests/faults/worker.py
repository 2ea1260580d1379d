"""`lethe worker` whose runner is the one beside this file, or with the argument `real` the real one behind a gate."""

import functools
import sys

from lethe import embedded
from lethe.cli import main
from tests.faults.skew import skew_clock

if __name__ == "__main__":
    skew_clock()
    module = "tests.faults.real_runner" if sys.argv[1:] == ["real"] else "tests.faults.runner"
    embedded.work = functools.partial(embedded.work, command=(sys.executable, "-m", module))  # type: ignore[assignment]
    sys.argv = ["lethe", "worker"]
    main()
