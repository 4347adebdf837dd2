"""Packed sets: a folder with `audio.tar` and `manifest.csv`, or a folder of such folders. One row of INFOS a set.

The columns of manifest.csv are COLUMNS; an empty cell is unknown. Clips are read from audio.tar where they lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, read_table
from clara.errors import ClaraError, unknown
from clara.text.prompts import load_language

COLUMNS = (
    "file",
    "seconds",
    "split",
    "language",
    "speaker",
    "gender",
    "age",
    "emotion",
    "label",
    "transcript",
    "caption",
)
GITHUB, HUB = "https://github.com", "https://huggingface.co/datasets"
NC_SA = "CC BY-NC-SA 4.0"
# The languages of KTuberling's voices; Nynorsk is spoken Norwegian, which our files call nb.
SPOKEN = ("ca", "da", "de", "el", "en", "eo", "es", "eu", "fi", "fr", "ga", "gl", "id", "it", "lt", "nb", "nds", "nl",
          "pt", "ro", "ru", "sl", "sr", "sv", "uk", "wa")  # fmt: skip
INFO = Corpus("packed", "see each set", "a folder with audio.tar and manifest.csv", "caption", sources=None)
INFOS = {
    c.name: c
    for c in (
        Corpus("nemo", NC_SA, f"{HUB}/amu-cai/nEMO", "emotion", ("pl",), "Christop 2024, arXiv:2404.06292"),
        Corpus("emospeech_in", NC_SA, f"{HUB}/RakshakTeam/emospeech-dataset-v1", "word", ("en", "hi")),
        Corpus("korean_emotional", f"{NC_SA}, research", f"{GITHUB}/emotiontts/emotiontts_open_db", "emotion", ("ko",)),
        Corpus("ased", "none stated", f"{GITHUB}/Ethio2021/ASED_V1", "emotion", ("am",), "Retta et al. 2022"),
        Corpus(
            "baved",
            "none stated, free for research",
            f"{GITHUB}/40uf411/Basic-Arabic-Vocal-Emotions-Dataset",
            "arousal",
            ("ar",),
        ),
        Corpus("emodb", "freely available", "http://emodb.bilderbar.info", "emotion", ("de",), "Burkhardt et al. 2005"),
        Corpus("esc50", "CC BY-NC 3.0", f"{GITHUB}/karolpiczak/ESC-50", "sound", (), "Piczak 2015"),
        Corpus(
            "sound_effects",
            "CC BY-SA 3.0, CC0, CC BY 4.0, per-mod CC, CC BY/CC0 (by source)",
            "OpenSFX, Sonic Pi, OpenSoundEffects, Minetest, MAX",
            "caption",
        ),
        Corpus("donateacry", "ODbL 1.0", f"{GITHUB}/gveres/donateacry-corpus", "sound"),
        Corpus(
            "philharmonia",
            "CC BY-SA 3.0, not to be passed on as samples",
            f"{GITHUB}/skratchdot/philharmonia-samples",
            "instrument",
        ),
        Corpus(
            "arabic_speech_commands",
            "CC BY 4.0",
            f"{GITHUB}/abdulkaderghandoura/arabic-speech-commands-dataset",
            "word",
            ("ar",),
        ),
        Corpus(
            "english_words",
            "CC BY-SA 4.0 (FSDD), CC BY 4.0 (others)",
            "FSDD, Speech Commands, custom commands",
            "word",
            ("en",),
            sources=("fsdd", "speech_commands"),
        ),
        Corpus("mandarin_words", "CC BY-SA", f"{GITHUB}/hugolpz/audio-cmn", "word", ("zh",)),
        Corpus(
            "lithuanian_words",
            "none; made for academic research",
            f"{GITHUB}/kolesov93/lt_speech_commands",
            "word",
            ("lt",),
        ),
        Corpus("emovo", "none stated, research", f"{GITHUB}/fp1acm8/SER", "emotion", ("it",), "Costantini et al. 2014"),
        Corpus(
            "savee",
            "none stated, research",
            f"{GITHUB}/Set0ri/Emotional-Speech-Recognition",
            "emotion",
            ("en",),
            "Haq and Jackson 2010",
        ),
        Corpus(
            "crema_d_subset",
            "ODbL 1.0 (CREMA-D); the copy states none",
            f"{GITHUB}/tudemaha/speech-emotion-classification",
            "emotion",
            ("en",),
            "Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244",
            sources=("crema_d",),
        ),
        Corpus(
            "crema_d_more",
            "ODbL 1.0 (CREMA-D); the copy states none",
            f"{GITHUB}/tudemaha/speech-emotion-classification",
            "emotion",
            ("en",),
            "Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244",
            sources=("crema_d",),
        ),
        Corpus(
            "eyase",
            "none stated, for research",
            f"{GITHUB}/amine-dubs/arabic-emotion-recognition-V2",
            "emotion",
            ("ar",),
            "Abdel-Hamid 2020, doi:10.1016/j.specom.2020.04.005",
        ),
        Corpus(
            "cc_sounds",
            "CC BY-SA 4.0 (pack), CC0 and CC BY (files)",
            f"{GITHUB}/Fris0uman/CDDA-Soundpacks",
            "caption",
            sources=("freesound",),
        ),
        Corpus(  # upstream it holds clips of ESC-50; those with other names cannot be told
            "animals",
            "none stated",
            f"{GITHUB}/Willie-Huang/Animal-sound-recognition",
            "sound",
            sources=("esc50",),
        ),
        Corpus("ktuberling_words", "GPL-2.0-or-later", f"{GITHUB}/KDE/ktuberling", "word", SPOKEN),
        Corpus(
            "read_speech",
            "MIT",
            f"{GITHUB}/ogunlao/yoruba_speech_project, {GITHUB}/CateGitau/Swahili-Speech",
            "language",
            ("yo", "sw"),
        ),
    )
}
# Labels that are no class: a sentence or source id, a style, the rest class. They stay in `original`.
NOT_CLASSES = {"ased", "korean_emotional", "sound_effects", "emovo", "cc_sounds"}
NO_LABELS = {("emospeech_in", "unknown"), ("emospeech_in", "background")}
# The packed manifest has these two the wrong way round: its sentences of mourning are labelled anger and are the quiet,
# low and slow ones, its reproaches sadness. The label as found stays in `original`.
EXCHANGED = {"korean_emotional": {"anger": "sadness", "sadness": "anger"}}

# File names of CC-Sounds as readable text: that of the first pattern which is the whole name, its groups put in
# as they are or as WORDS spells them.
WORDS = {
    "bash": "blunt weapon", "cutting": "blade", "stabbing": "pointed weapon", "female": "woman", "male": "man",
    "scared": "fear", "external": "outside", "internal": "inside", "far": "far away",
    "near": "nearby", "open": "opened", "close": "closed", "start": "starting", "stop": "stopping",
    "electric": "electricity", "brick": "bricks", "wood furn": "wooden furniture", "door wood": "a wooden door",
    "chain link": "a chain-link fence", "glass reinforced": "reinforced glass",
    "window boarded": "a boarded-up window", "window frame": "a window frame", "window wood": "a wooden window",
    "floor": "a floor", "rock floor": "a rock floor",
    "wall": "a wall", "wood": "wooden", "lasergun": "laser gun", "launcher": "grenade launcher",
    "machinegun": "machine gun", "rocket": "rocket launcher",
    "mag fed bolt action rifle": "bolt-action rifle", "tube fed shotgun shell": "shotgun",
    "oxytorch": "an oxyacetylene torch", "axe": "an axe", "hacksaw": "a hacksaw", "pickaxe": "a pickaxe",
    "shovel": "a shovel", "heavyrain": "heavy rain", "flurries": "falling snow", "snowing": "falling snow",
}  # fmt: skip
NAMES = (
    ("plmove walk barefoot", "bare footsteps"),
    ("plmove walk water.*", "footsteps in water"),
    ("plmove walk grass long", "footsteps in long grass"),
    ("plmove walk (.+)", "footsteps on {}"),
    (r"plmove fatigue \w+", "a tired person breathing"),
    ("plmove clear obstacle", "a person climbing over an obstacle"),
    ("deal damage hurt", "a person crying out in pain"),
    ("melee swing default unarmed", "a fist swinging through the air"),
    (r"melee swing (\w+) (\w+)", "a {} {} swinging through the air"),
    ("melee hit flesh default unarmed", "a punch hitting flesh"),
    (r"melee hit flesh (\w+) (\w+)", "a {} {} hitting flesh"),
    ("melee attack monster hit", "the blow of a monster"),
    ("mon bite hit", "a monster biting"),
    ("mon bite miss", "a monster snapping and missing"),
    ("mon death zombie.*", "a zombie dying"),
    ("speech zombie groan", "a zombie groaning"),
    ("speech ferals (female|male) (anguish|scared) heavy breathing", "a {} breathing heavily in {}"),
    ("speech ferals (male) heavy breathing", "a {} breathing heavily"),
    ("speech ferals (female) mad whisper", "a mad {} whispering"),
    ("speech ferals (female|male) scream", "a {} screaming"),
    ("speech ferals (male) mumbling", "a {} mumbling"),
    ("speech ferals creepy laugh", "a creepy laugh"),
    ("speech ferals die scream", "the scream of someone dying"),
    ("speech ferals old man hesitant ranbling", "an old man rambling hesitantly"),
    ("smash success hit vehicle", "a blow hitting a vehicle"),
    ("smash success window", "a window breaking"),
    ("smash success (.+)", "{} breaking"),
    ("smash fail (.+)", "{} being hit without breaking"),
    ("smash glass", "glass breaking"),
    ("fire gun empty", "the click of an empty gun"),
    ("fire gun brass eject", "a cartridge case being ejected"),
    ("fire gun monster guns acid sniper", "a monster spitting acid"),
    ("fire gun monster guns gene sting", "a monster shooting a sting"),
    ("fire gun rifles automatic rifle (indoor|outdoor) .+", "{} gunfire of an automatic rifle"),
    ("fire gun bows bow", "a bow shooting an arrow"),
    ("fire gun generic genericgun", "a gun being fired"),
    (r"fire gun \w+ (\w+)", "a {} being fired"),
    ("fire ignition", "a fire being lit"),
    ("reload default", "a gun being reloaded"),
    ("reload (.+) load", "a {} being reloaded"),
    ("explosion default", "an explosion"),
    (r"explosion (\w+)", "a {} explosion"),
    ("environment weather (?:weather )?(rainstorm|snowstorm) inside", "a {} heard from inside"),
    ("environment weather (?:weather )?(rainstorm|snowstorm)", "a {}"),
    ("environment weather night (clear|cloudy)", "a {} night outdoors"),
    ("environment weather night rain", "rain at night"),
    (r"environment weather (clear|cloudy|sunny) (\w+)", "a {} {} day outdoors"),
    ("environment weather indoors rain", "rain heard from indoors"),
    ("environment weather thunder (far|near)", "thunder {}"),
    ("environment weather (.+)", "{}"),
    ("environment ambient (indoors|underground)", "the sound of a place {}"),
    ("environment ambient (.+)", "{}"),
    ("close door (fence|window curtain|window|gun safe)", "a {} being closed"),
    ("open door (fence|window curtain|window|gun safe)", "a {} being opened"),
    ("close door (metal|wood)", "a {} door being closed"),
    ("open door (metal|wood)", "a {} door being opened"),
    ("vehicle (open|close) door internal car", "a car door being {}, heard from inside"),
    ("vehicle (open|close) door car", "a car door being {}"),
    ("vehicle (open|close) trunk car", "the trunk of a car being {}"),
    ("vehicle gear shift", "the gear shift of a vehicle"),
    ("vehicle rear beeper", "the reversing beeper of a vehicle"),
    ("vehicle horn medium", "the horn of a vehicle"),
    ("vehicle (.+)", "{}"),
    ("engine (start|stop) electric motor ping", "an electric motor {}"),
    ("engine (start|stop).*", "an engine {}"),
    ("engine working (external|internal).*", "an engine running, heard from {}"),
    ("tool camera shutter", "a camera shutter"),
    (r"tool geiger \w+", "the clicks of a Geiger counter"),
    ("tool (.+)", "someone using {}"),
    ("humming (.+)", "the hum of {}"),
    ("radio inaudible chatter", "unintelligible chatter on the radio"),
    ("radio static", "radio static"),
    (r"menu (\w+)", "a sound of a menu: {}"),
    ("clean up at end death", "the sound of death in a game"),
)
# KTuberling's names of pictures. UNCLEAR ones are no plain name of a thing: what its voices call them is not known.
THEMES = re.compile(r"(?:pizzeria|moon|egypt|tv|xmas|butterflies|robot workshop|tux)[ -]|-tux$|\d$")
RENAMED = {
    "pizzeria brocolli": "broccoli",
    "moon fallingstar": "falling star",
    "egypt palmtree": "palm tree",
    "egypt sphynx": "sphinx",
    "frier-tux": "friar",
    "sherif-tux": "sheriff",
    "whitch-tux": "witch",
    "tux-dowe": "dove",
    "tv fireengine": "fire engine",
    "tv volley net": "volleyball net",
    "tux-letter-love": "love letter",
    "xmas ball": "Christmas bauble",
    "xmas tree": "Christmas tree",
    "xmas lights": "Christmas lights",
    "xmas moon": "moon",
    "moon ufo": "UFO",
    "moon earth": "Earth",
}
UNCLEAR = {
    "tuberling", "xmas tux", "guard-tux", "kid-tux", "little-tux", "maiden-tux", "prince-tux", "robin-tux",
    "moon moonwalker", "moon sign", "tux-fly", "tux-angry", "tux-huh", "tux-idea", "tux-laugh", "tux-love", "tux-sick",
    "tux-stare", "tux-what", "tux-wow", "tux-zzz", "tux-shoot", "tux-wanted", "tux-bow", "butterflies purple shape",
    "robot workshop base", "robot workshop rod", "tv breakdown lorry", "tv lorry tractor", "tv accident", "tv trailer",
    "tv tipper", "tv path", "tux-note", "tux-notes", "bow", "badge", "tv barrier",
}  # fmt: skip
# Languages without a file of ours, by ISO 639; the others are named by the English one.
LANGUAGES = {
    "eo": "Esperanto",
    "gl": "Galician",
    "nds": "Low German",
    "sl": "Slovenian",
    "sr": "Serbian",
    "wa": "Walloon",
}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of one packed set, or of every packed set in `folder`, in the order of their manifests."""
    folder = Path(folder).resolve()
    sets = [folder] if (folder / "manifest.csv").is_file() else sorted(p.parent for p in folder.glob("*/manifest.csv"))
    if not sets:
        raise ClaraError(f"{folder}: no manifest.csv here or one level below; expected packed sets.")
    for one in sets:
        if one.name not in INFOS:
            raise unknown("packed set (add its licence to INFOS of packed.py)", one.name, INFOS)
        if not (one / "audio.tar").is_file():
            raise ClaraError(f"{one}: manifest.csv without audio.tar.")
        for record in read_table(one / "manifest.csv", COLUMNS):
            yield packed_row(one, INFOS[one.name], record)


def packed_row(folder: Path, info: Corpus, record: dict[str, str]) -> Row:
    """One line of a manifest.csv as a Row."""
    cell = {k: v.strip() or None for k, v in record.items()}
    if info.name == "ktuberling_words":
        return spoken_row(folder, info, cell)
    label, original = cell["label"], {"file": record["file"]}
    if label and (info.name in NOT_CLASSES or (info.name, label) in NO_LABELS):
        original["label"], label = label, None
    emotion = EXCHANGED.get(info.name, {}).get(cell["emotion"] or "", cell["emotion"])
    if emotion != cell["emotion"]:
        original["emotion"] = cell["emotion"]
    if info.task == "arousal" and label:
        label = label.removesuffix(" arousal")
    return Row(
        audio=f"{folder / 'audio.tar'}::{record['file']}",
        corpus=info.name,
        split=cell["split"] or "train",
        seconds=float(record["seconds"]),
        language=cell["language"],
        text=caption_texts(info.name, label, cell["caption"]),
        emotion=emotion,
        label=label,
        task=info.task,
        speaker=cell["speaker"],
        gender=cell["gender"],
        age=cell["age"],
        transcript=cell["transcript"],
        license=info.license,
        original=original,
    )


def spoken_row(folder: Path, info: Corpus, cell: dict[str, str | None]) -> Row:
    """A row of KTuberling: a picture's English name, and a voice that says the word for it in its own language.

    The word itself is not known, so there is no label for it but in English: it would be read as what is spoken.
    """
    found, language = cell["label"] or "", {"nn": "nb"}.get(cell["language"] or "", cell["language"])
    known = load_language("en").terms["language"]
    name = LANGUAGES.get(language or "") or known[language or ""].names[0]
    thing = RENAMED.get(found, THEMES.sub("", found)).strip() if found not in UNCLEAR else None
    word = thing if language == "en" else None
    texts = (f"the word for “{thing}” in {name}", f"someone says the {name} word for “{thing}”")
    return Row(
        audio=f"{folder / 'audio.tar'}::{cell['file']}",
        corpus=info.name,
        split=cell["split"] or "train",
        seconds=float(cell["seconds"] or 0),
        language=language,
        text=texts if thing and not word else (),
        label=word,
        task=info.task,
        speaker=cell["speaker"],
        license=info.license,
        original={"file": cell["file"], "concept": found, "locale": cell["language"]},
    )


def caption_texts(corpus: str, label: str | None, caption: str | None) -> tuple[str, ...]:
    """The caption column as texts: names of sound effects cleaned, an instrument's technique behind its name."""
    if not caption:
        return ()
    if corpus == "philharmonia":
        return (f"{label}, {caption.removesuffix(' normal')}",)
    if corpus == "cc_sounds":
        return (readable(caption),)
    for prefix in ("default ", "static ", "toyland: "):
        caption = caption.removeprefix(prefix)
    return (caption.replace("/", " or "),)


def readable(name: str) -> str:
    """A file name of CC-Sounds as text, by NAMES; one that no pattern knows as it is."""
    for pattern, text in NAMES:
        if found := re.fullmatch(pattern, name, re.IGNORECASE):
            return text.format(*(WORDS.get(word, word) for word in map(str.lower, found.groups())))
    return name
