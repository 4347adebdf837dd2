"""Layouts of corpora of words and sentences read."""

from __future__ import annotations

from layout import Layout

WORDS: dict[str, Layout] = {
    "fsdd": Layout(
        ("recordings/0_jackson_0.wav", "recordings/7_theo_32.wav"),
        (
            {"label": "zero", "split": "test", "speaker": "jackson"},
            {"label": "seven", "split": "train", "task": "word"},
        ),
        bad=("recordings/x_theo_32.wav", "", "expected a name"),
    ),
    "speech_commands": Layout(
        (
            "yes/0a7c2a8d_nohash_0.wav",
            "no/1b7c2a8d_nohash_1.wav",
            "no/2b7c2a8d_nohash_0.wav",
            "_background_noise_/pink_nohash_.wav",
        ),
        (
            {"label": "no", "split": "valid", "speaker": "1b7c2a8d", "o.version": "v0.01"},
            {"label": "no", "split": "train"},
            {"label": "yes", "split": "test"},
        ),
        {"validation_list.txt": "no/1b7c2a8d_nohash_1.wav\n", "testing_list.txt": "yes/0a7c2a8d_nohash_0.wav\n"},
    ),
    "mswc": Layout(
        tuple(
            f"{c}/clips/{w}/common_voice_{c}_{i}.opus"
            for c, w, i in (("de", "haus", 1), ("de", "haus", 2), ("de", "baum", 3), ("de", "baum", 4))
        ),
        (
            {"label": "haus", "split": "train", "language": "de", "gender": "female"},
            {"label": "haus", "split": "test"},
            {"label": "baum", "split": "train"},
            {"label": "baum", "split": "test", "gender": None},
        ),
        {
            "de/de_splits.csv": "SET,LINK,WORD,VALID,SPEAKER,GENDER\n"
            "TRAIN,haus/common_voice_de_1.opus,haus,True,s1,FEMALE\nTEST,haus/common_voice_de_2.opus,haus,True,s2,MALE\n"
            "TRAIN,baum/common_voice_de_3.opus,baum,True,s1,FEMALE\nTEST,baum/common_voice_de_4.opus,baum,True,s2,NAN\n"
            "TEST,baum/common_voice_de_5.opus,baum,False,s2,NAN\nTEST,baum/common_voice_de_6.opus,baum,True,s2,NAN\n"
        },
    ),
    "common_voice": Layout(
        ("de/clips/common_voice_de_1.mp3",),
        ({"language": "de", "split": "test", "transcript": 'Er sagte "nein', "gender": "male", "age": "twenties"},),
        {
            "de/test.tsv": "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\n"
            'abcdef0123456789ab\tcommon_voice_de_1.mp3\tEr sagte "nein\t2\t0\ttwenties\tmale_masculine\t\tde\n'
        },
    ),
    "fleurs": Layout(
        ("data/cmn_hans_cn/audio/dev/1.wav", "data/de_de/audio/test/12.wav"),
        (
            {"language": "zh", "split": "valid"},
            {"language": "de", "split": "test", "seconds": 2.0, "gender": "female", "o.sentence": "1675"},
        ),
        {
            "data/cmn_hans_cn/dev.tsv": "3\t1.wav\t你好\t你好\t你 好\t16000\tMALE\n",
            "data/de_de/test.tsv": "1675\t12.wav\tHallo, Welt.\thallo welt\th a\t32000\tFEMALE\n",
        },
    ),
}
