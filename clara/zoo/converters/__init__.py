"""One module a family; importing this package registers them. A new family is one file and one line here."""

from clara.zoo.converters import clara_lightning, glap, laion, m2d_clap, msclap, paraclap, transformers, wavcaps  # noqa: F401
