"""Speech from text: espeak-ng through ctypes, the library and its voices from the package espeakng-loader.

The library has one state per process, so everything goes through `Espeak.speak`, which sets all that can be set, every
time. The phase of its oscillators cannot: the same text twice differs by a fraction of a millisecond. espeak-ng is
GPL-3.0 and is loaded only where it was installed (`clara[synth]`).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from clara.errors import ClaraError, require, unknown

SYNCHRONOUS, UTF8, DONT_EXIT, IPA = 2, 1, 0x8000, 0x02
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER
CODES = {"zh": "cmn"}  # a code of ours -> espeak's, where it is not the same
OTHER_SCRIPTS = ("latn", "shaw")  # voices that read the language in another script than our files write it
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Manner:
    """How a text is spoken: espeak's voice ("lt"), a variant of it ("f2", "" = plain), words a minute (80–450), pitch
    and its range (0–100)."""

    voice: str
    variant: str = ""
    rate: int = 160
    pitch: int = 50
    range: int = 50


class Espeak:
    """The loaded library. Get it by `espeak()`: there can be one per process."""

    def __init__(self) -> None:
        loader = require("espeakng_loader", "synth")
        self.data = Path(loader.get_data_path())
        self.library = ctypes.CDLL(loader.get_library_path())
        self.sample_rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, str(self.data.parent).encode(), DONT_EXIT)
        if self.sample_rate <= 0:
            raise ClaraError(f"espeak-ng cannot read its voices in {self.data}: install espeakng-loader again.")
        self._samples: list[np.ndarray] = []
        self._callback = CALLBACK(self._take)  # kept: the library holds a bare pointer to it
        self.library.espeak_SetSynthCallback(self._callback)
        self.library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.files = self._list()  # by language tag: "en-gb" is set by its file's name, "en"
        self.voices = sorted(self.files)

    def _take(self, samples: object, count: int, events: object) -> int:
        if samples and count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def _list(self) -> dict[str, str]:
        found, i = self.library.espeak_ListVoices(None), 0
        files: dict[str, str] = {}
        while found[i]:
            voice = found[i].contents
            tag = voice.languages[1:].decode()  # after a byte of priority
            files.setdefault(tag, voice.identifier.decode().rpartition("/")[2])
            i += 1
        return files

    def variants(self) -> list[str]:
        """The voices of men (m1 …) and women (f1 …) that any language can be spoken with."""
        folder = self.data / "voices" / "!v"
        return sorted(p.name for p in folder.iterdir() if p.name[0] in "mf" and p.name[1:].isdecimal())

    def voices_of(self, language: str) -> list[str]:
        """espeak's voices for one of our language codes: itself, and regional ones ("en" -> en-gb, en-us …)."""
        parts = ((v, v.split("-")) for v in self.voices)
        return [v for v, p in parts if p[0] == CODES.get(language, language) and not set(p) & set(OTHER_SCRIPTS)]

    def phonemes(self, text: str, voice: str) -> str:
        """How `voice` would say a text (IPA). "(en)" in it: a part that it can only read in English."""
        self._set(Manner(voice))
        rest, out = ctypes.c_char_p(text.encode()), []
        while rest.value:
            part = self.library.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, IPA)
            out.append((part or b"").decode())
        return " ".join(out)

    def speak(self, text: str, manner: Manner) -> np.ndarray:
        """The wave, float32 (T,) at `sample_rate`, silence at the ends cut off. ClaraError: no such voice, no sound."""
        self._set(manner)
        for parameter, value in ((RATE, manner.rate), (PITCH, manner.pitch), (RANGE, manner.range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self._samples.clear()
        data = text.encode() + b"\0"
        failed = self.library.espeak_Synth(data, len(data), 0, 0, 0, UTF8, None, None)
        self.library.espeak_Synchronize()
        wave = np.concatenate([np.zeros(0, np.int16), *self._samples]).astype(np.float32) / 32768
        loud = np.flatnonzero(np.abs(wave) > 1e-3)
        if failed or len(loud) == 0:
            raise ClaraError(f"espeak-ng's voice {manner.voice!r} says nothing for {text!r}.")
        edge = self.sample_rate // 50
        return wave[max(0, loud[0] - edge) : loud[-1] + edge]

    def _set(self, manner: Manner) -> None:
        if manner.voice not in self.files:
            raise unknown("espeak-ng voice", manner.voice, self.voices)
        name = self.files[manner.voice] + (f"+{manner.variant}" if manner.variant else "")
        if self.library.espeak_SetVoiceByName(name.encode()):
            raise ClaraError(f"espeak-ng cannot load its voice {name!r}: install espeakng-loader again.")


@cache
def espeak() -> Espeak:
    """The library of this process. ClaraError where `clara[synth]` is not installed."""
    return Espeak()
