"""The packages of a build; `pyproject.toml` says everything else."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["models*", "harness*"]), "harness.configs"],
    package_dir={"harness.configs": "configs"},  # inside `harness`, because another package may be called `configs`
)
