"""The bundled sample corpus, as a package so that an installed wheel carries it."""
