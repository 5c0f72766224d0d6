"""nissl: a neural-network library and laboratory from first principles."""

from nissl.version import __version__ as __version__
