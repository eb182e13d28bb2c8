"""``python -m qsam2_deploy.run SCRIPT.py``: the command ``qsam2-run``."""

from .cli.run import main

if __name__ == "__main__":
    raise SystemExit(main())
