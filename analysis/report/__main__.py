"""`python -m analysis.report PATH_OR_URI`."""

import sys

from analysis.report.build import main

sys.exit(main())
