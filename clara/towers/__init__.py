"""Tower families: the kind a config names -> the module that registers it, imported when first one is built. A new
family is one file and one line here."""

AUDIO = {
    "cnn14": "clara.towers.cnn14",
    "conv": "clara.towers.conv",
    "dasheng": "clara.towers.dasheng",
    "hf_audio": "clara.towers.hf_audio",
    "htsat": "clara.towers.htsat",
    "m2d": "clara.towers.m2d",
    "perceiver": "clara.towers.perceiver",
    "timm": "clara.towers.timm",
}
TEXT = {
    "anchors": "clara.towers.anchors",
    "hf_text": "clara.towers.hf_text",
    "postnorm_text": "clara.towers.perceiver",
    "transformer": "clara.towers.transformer",
}
