"""`python -m chalicelib.cli` is `prefect-agent`."""

from __future__ import annotations

import sys

from chalicelib.cli.commands import main

sys.exit(main())
