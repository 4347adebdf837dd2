"""Tower families. Importing this package registers them; a new family is one file and one line here."""

from clara.towers import anchors, cnn14, conv, hf_audio, hf_text, htsat, timm, transformer  # noqa: F401
