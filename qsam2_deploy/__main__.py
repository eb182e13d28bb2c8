"""``python -m qsam2_deploy``: the commands."""

from .cli.deploy import main

raise SystemExit(main())
