"""What runs a component: one folder for each engine. Imports ``model_file`` and ``lowering``."""
