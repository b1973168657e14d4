"""The version, said here alone: the build, ``memaudit --version`` and every record read it."""

__all__ = ["__version__"]

__version__ = "0.1.0"
