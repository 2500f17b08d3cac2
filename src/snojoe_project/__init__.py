"""Projects of one's own: what ``snojoe init`` makes, and what its stages run.

This package knows of DVC and git, which `snojoe` does not. A project has parameters and results;
its code is the installed package, its stages are the scripts that this repository's ``dvc.yaml``
runs, and its ``dvc.yaml`` is made of that one.
"""
