"""Amazon SageMaker's built-in algorithms as open, local, fast equivalents.

``clary`` is compatible with Amazon SageMaker and not affiliated with Amazon Web Services.

Packages, in the order a record meets them: :mod:`clary.recordio` turns bytes into batches,
:mod:`clary.algorithms` learns from them, :mod:`clary.train` and :mod:`clary.serve` are the two halves
of the container contract, :mod:`clary.containers` runs them on this machine.
"""

__version__ = "0.1.0"
