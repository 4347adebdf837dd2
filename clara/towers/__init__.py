"""Tower families. Importing this package registers them; a new family is one file and one line here."""

from clara.towers import anchors, cnn14, conv, dasheng, hf_audio, hf_text, htsat, m2d, perceiver, timm, transformer  # noqa: F401
