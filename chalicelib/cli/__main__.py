"""`python -m chalicelib.cli` is `prefect-agent`."""

import sys

from chalicelib.cli.commands import main

sys.exit(main())
