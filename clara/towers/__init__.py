"""Tower families. Importing this package registers them; a new family is one file and one line here."""

from clara.towers import (  # noqa: F401
    anchors,
    cnn14,
    conv,
    dasheng,
    ensemble,
    hf_audio,
    hf_text,
    htsat,
    m2d,
    perceiver,
    timm,
    transformer,
)
