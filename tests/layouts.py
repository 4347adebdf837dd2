"""Tiny copies of the official layouts of all corpora: names of clips, tables as text, rows that must come of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

RATE = 16000


@dataclass(frozen=True)
class Layout:
    """`clips` and `tables` (path -> text) below the corpus' folder; `rows`: fields of the rows expected, in
    order, `o.y` for `original["y"]`; `bad`: a clip or table that is refused, and the words of the error."""

    clips: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    tables: dict[str, str] = field(default_factory=dict)
    bad: tuple[str, str, str] | None = None  # path, text (clips: ""), what the error says

    def write(self, folder: Path) -> Path:
        """Write it, every clip another tone of 0.3 s, and return the folder."""
        for i, name in enumerate(self.clips):
            write_clip(folder / name, 200.0 * 1.3**i)
        for name, text in self.tables.items():
            write_table(folder / name, text)
        return folder


def write_clip(path: Path, hz: float = 440.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(0.3 * RATE)) / RATE)
    suffix = path.suffix[1:].upper()
    with path.open("wb") as file:  # soundfile picks the format by suffix; mp4 and webm hold WAV here, unread
        sf.write(file, wave, RATE, format=suffix if suffix in ("WAV", "FLAC", "MP3") else "WAV")


def write_table(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def cut(text: str) -> str:
    """A table without the indentation of this file."""
    return "\n".join(line.strip(" ") for line in text.strip().splitlines()) + "\n"


def seven(*names: str) -> tuple[str, ...]:
    return tuple(f"Actor_{n[-2:]}/{n}.wav" for n in names)


LAYOUTS: dict[str, Layout] = {
    "ravdess": Layout(
        seven("03-02-02-02-01-02-01", "03-01-06-01-02-01-12"),
        (
            {"emotion": "calm", "gender": "male", "o.vocal_channel": "song", "o.intensity": "strong"},
            {"emotion": "fear", "speaker": "12", "gender": "female", "split": "test", "o.repetition": 1}
            | {"transcript": "Dogs are sitting by the door", "language": "en"},
        ),
        bad=("Actor_02/03-01-09-01-02-01-02.wav", "", "emotion '09'"),
    ),
    "crema_d": Layout(
        ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_IEO_HAP_HI.wav"),
        (
            {"emotion": "anger", "gender": "male", "age": "51", "transcript": "Don't forget a jacket"},
            {"emotion": "happiness", "gender": "female", "o.level": "high"},
        ),
        {"VideoDemographics.csv": "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,x,y\n1002,21,Female,x,y\n"},
        ("AudioWAV/1003_DFA_ANG_XX.wav", "", "1003_DFA_ANG_XX"),
    ),
    "tess": Layout(
        ("OAF_Fear/OAF_back_ps.wav", "OAF_neutral/OA_bite_neutral.wav", "YAF_angry/YAF_dog_angry.wav"),
        (
            {"emotion": "surprise", "age": "64", "transcript": "Say the word back", "gender": "female"},
            {"emotion": "neutral", "speaker": "OAF"},
            {"emotion": "anger", "age": "26", "speaker": "YAF"},
        ),
        bad=("x/OAF_back_glad.wav", "", "'glad'"),
    ),
    "emodb": Layout(
        ("wav/03a01Fa.wav", "wav/16b10Lb.wav"),
        (
            {"emotion": "happiness", "gender": "male", "age": "31", "language": "de"},
            {"emotion": "boredom", "speaker": "16", "o.version": "b"},
        ),
        bad=("wav/99a01Fa.wav", "", "person '99'"),
    ),
    "cafe": Layout(
        ("Colère/Faible/01-C-1-1.wav", "Neutre/02-N-1-6.wav"),
        (
            {"emotion": "anger", "gender": "male", "age": "46", "o.intensity": "low", "o.sentence": "1"},
            {"emotion": "neutral", "gender": "female", "language": "fr"},
        ),
        bad=("Joie/13-J-1-1.wav", "", "actor '13'"),
    ),
    "emovo": Layout(
        ("f1/dis-f1-b1.wav", "m3/gio-m3-n5.wav"),
        (
            {"emotion": "disgust", "gender": "female", "speaker": "f1", "language": "it"},
            {"emotion": "happiness", "gender": "male", "o.sentence": "n5"},
        ),
        bad=("m3/xyz-m3-n5.wav", "", "'xyz'"),
    ),
    "urdu": Layout(
        ("Angry/SM1_F10_A010.wav", "Sad/SF2_F1_S01.wav"),
        (
            {"emotion": "anger", "gender": "male", "speaker": "SM1", "language": "ur"},
            {"emotion": "sadness", "gender": "female"},
        ),
        bad=("Sad/other.wav", "", "expected a name as in SM1"),
    ),
    "shemo": Layout(
        ("female/F01A01.wav", "male/M05W12.wav"),
        (
            {"emotion": "anger", "gender": "female", "speaker": "F01", "language": "fa"},
            {"emotion": "surprise", "gender": "male"},
        ),
        bad=("male/M05X12.wav", "", "'X'"),
    ),
    "subesco": Layout(
        ("F_01_OISHI_S_10_ANGRY_5.wav", "M_02_X_S_1_SURPRISE_1.wav"),
        (
            {"emotion": "anger", "gender": "female", "speaker": "F_01", "o.sentence": "10", "language": "bn"},
            {"emotion": "surprise", "gender": "male", "o.take": "1"},
        ),
        bad=("M_02_X_S_1_BORED_1.wav", "", "'BORED'"),
    ),
    "turev_db": Layout(
        ("Sound Source/Angry/1157_kz_beste.wav", "Sound Source/Calm/1234_sk_algi.wav"),
        (
            {"emotion": "anger", "speaker": "1157", "transcript": "beste", "language": "tr"},
            {"emotion": "calm"},
        ),
        bad=("Sound Source/Bored/1234_sk_algi.wav", "", "'Bored'"),
    ),
    "baved": Layout(
        ("0/1-M-21-0-0-105.wav", "2/2-f-20-3-2-7.wav"),
        (
            {"label": "low", "task": "arousal", "gender": "male", "age": "21", "transcript": "اعجبني"},
            {"label": "high", "gender": "female", "speaker": "2", "language": "ar"},
        ),
        bad=("2/2-f-20-3-9-7.wav", "", "label '9'"),
    ),
    "ased": Layout(
        ("01Neutral/n1-01-01-01-01.wav", "04Sad/S4-04-02-02-29.wav"),
        (
            {"emotion": "neutral", "gender": "female", "speaker": "01", "language": "am"},
            {"emotion": "sadness", "gender": "male", "o.sentence": "04"},
        ),
        bad=("x/z1-01-01-01-01.wav", "", "emotion 'z'"),
    ),
    "emov_db": Layout(
        ("bea/Angry/anger_1-28_0011.wav", "josh_Amused/amused_1-15_0001.wav"),
        (
            {"emotion": "anger", "speaker": "bea", "gender": "female", "o.sentence": "0011"},
            {"emotion": None, "o.emotion": "amusement", "gender": "male"},
        ),
        bad=("ann/Angry/anger_1-28_0011.wav", "", "'ann'"),
    ),
    "esd": Layout(
        ("0001/Angry/train/0001_000401.wav", "0011/Happy/0011_000701.wav", "0011/Happy/0011_000725.wav"),
        (
            {"emotion": "anger", "language": "zh", "split": "train", "gender": "female"},
            {"emotion": "happiness", "language": "en", "split": "valid", "gender": "male"},
            {"split": "test"},
        ),
        bad=("0021/Angry/0021_000401.wav", "", "'0021'"),
    ),
    "fsdd": Layout(
        ("recordings/0_jackson_0.wav", "recordings/7_theo_32.wav"),
        (
            {"label": "zero", "split": "test", "speaker": "jackson"},
            {"label": "seven", "split": "train", "task": "word"},
        ),
        bad=("recordings/x_theo_32.wav", "", "expected a name"),
    ),
    "vocalsound": Layout(
        ("audio_16k/f0003_0_cough.wav", "audio_16k/m0004_0_throatclearing.wav"),
        (
            {"label": "coughing", "split": "test", "gender": "female", "age": "30"},
            {"label": "throat clearing", "split": "train", "gender": "male"},
        ),
        {
            "meta/te_meta.json": json.dumps([["f0003", "female", "30", "x", "English", "no"]]),
            "meta/tr_meta.json": json.dumps([["m0004", "male", "41", "x", "English", "no"]]),
            "meta/val_meta.json": "[]",
        },
        ("audio_16k/f0009_0_cough.wav", "", "'f0009'"),
    ),
    "nemo": Layout(
        ("samples/WR0_surprised_64.wav", "samples/EB0_anger_1.wav"),
        (
            {"emotion": "surprise", "speaker": "WR0", "split": "valid"},
            {"emotion": "anger", "split": "train", "transcript": "Lubię czytać."},
        ),
        {
            "data.tsv": "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
            "WR0_surprised_64.wav\tsurprised\tUcho wykrywa.\tx\t        WR0\tmale\t23\n"
            "EB0_anger_1.wav\tanger\tLubię czytać.\tx\t        EB0\tfemale\t27\n"
        },
        ("data.tsv", "file_id\temotion\traw_text\tspeaker_id\tgender\tage\na\tsuprised\tx\ty\tz\t2\n", "surprised"),
    ),
    "iemocap": Layout(
        tuple(f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{t}.wav" for t in ("F000", "M000", "F001")),
        (
            {
                "emotion": "neutral",
                "speaker": "Ses01F",
                "gender": "female",
                "transcript": "Excuse me.",
                "split": "test",
            },
            {"emotion": "anger", "speaker": "Ses01M", "gender": "male", "o.session": "Session1"},
            {"emotion": None, "o.emotion": "excitement"},
        ),
        {
            "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": "% [START - END] TURN_NAME EMOTION [V, A, D]\n\n"
            "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n\n"
            "[10.0 - 11.3]\tSes01F_impro01_M000\tang\t[2.5, 2.5, 2.5]\n"
            "[12.0 - 13.3]\tSes01F_impro01_F001\texc\t[2.5, 2.5, 2.5]\n",
            "Session1/dialog/transcriptions/Ses01F_impro01.txt": "Ses01F_impro01_F000 [006.29-008.23]: Excuse me.\n",
        },
        (
            "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt",
            "[6.2 - 8.2]\tSes02F_impro01_F000\tbad\t[2, 2, 2]\n",
            "'bad'",
        ),
    ),
    "msp_podcast": Layout(
        tuple(f"Audios/MSP-PODCAST_0001_000{i}.wav" for i in (1, 2)),
        (
            {"emotion": "anger", "split": "test1", "speaker": "128", "gender": "female"},
            {"emotion": None, "o.emotion": "contempt", "split": "valid", "speaker": None, "gender": None},
        ),
        {
            "Labels/labels_consensus.csv": cut(
                """FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
                MSP-PODCAST_0001_0001.wav,A,5,2,4,128,Female,Test1
                MSP-PODCAST_0001_0002.wav,C,4,3,4,Unknown,Unknown,Development"""
            )
        },
        ("Labels/labels_consensus.csv", "FileName,EmoClass,SpkrID,Gender,Split_Set\na.wav,Q,1,Male,Train\n", "'Q'"),
    ),
    "meld": Layout(
        ("train/train_splits/dia0_utt0.mp4", "dev_splits_complete/dia0_utt0.wav"),
        (
            {"emotion": "happiness", "split": "train", "speaker": "Joey", "transcript": "Oh, hi!"},
            {"emotion": "neutral", "split": "valid"},
        ),
        {
            "train_sent_emo.csv": "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
            '1,"Oh, hi!",Joey,joy,positive,0,0\n2,Gone.,Joey,joy,positive,0,1\n',
            "dev_sent_emo.csv": "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
            "1,Well.,Ross,neutral,neutral,0,0\n",
        },
        (
            "train_sent_emo.csv",
            "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\nx,Joey,glee,0,0\n",
            "'glee'",
        ),
    ),
    "emns": Layout(
        ("wavs/a1.webm", "wavs/a2.webm"),
        (
            {"emotion": "anger", "text": ("Shouting.",), "gender": "female", "o.level": "3"},
            {"emotion": None, "o.emotion": "sarcasm", "text": ()},
        ),
        {
            "metadata.csv": "id|user_id|utterance|description|emotion|gender|level|audio_recording\n"
            "1|3|Stop, now.|Shouting.|Angry|Female|3|wavs/a1.webm\n2|3|Sure.||Sarcastic|Female|5|wavs/a2.webm\n"
        },
        (
            "metadata.csv",
            "user_id|utterance|description|emotion|gender|level|audio_recording\n3|x|y|Glad|Female|3|a.webm\n",
            "'Glad'",
        ),
    ),
    "esc50": Layout(
        ("audio/1-100032-A-0.wav", "audio/5-9032-A-30.wav"),
        (
            {"label": "dog", "split": "train", "task": "sound", "o.esc10": True},
            {"label": "door wood knock", "split": "test", "speaker": "fold5", "o.esc10": False},
        ),
        {
            "meta/esc50.csv": cut(
                """filename,fold,target,category,esc10,src_file,take
                1-100032-A-0.wav,1,0,dog,True,100032,A
                5-9032-A-30.wav,5,30,door_wood_knock,False,9032,A"""
            )
        },
    ),
    "urbansound8k": Layout(
        ("audio/fold5/100032-3-0-0.wav",),
        ({"label": "dog", "speaker": "fold5", "o.foreground": True},),
        {
            "metadata/UrbanSound8K.csv": cut(
                """slice_file_name,fsID,start,end,salience,fold,classID,class
                100032-3-0-0.wav,100032,0,0.3,1,5,3,dog_bark"""
            )
        },
    ),
    "fsd50k": Layout(
        ("FSD50K.dev_audio/1.wav", "FSD50K.eval_audio/2.wav", "FSD50K.eval_audio/3.wav"),
        (
            {"split": "valid", "o.labels": ["accelerating, revving, vroom", "car"], "label": None},
            {"split": "test", "o.labels": ["bark", "dog"]},
            {"split": "test", "o.labels": ["rain"]},
        ),
        {
            "FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n"
            '1,"Accelerating_and_revving_and_vroom,Car","x",val\n',
            "FSD50K.ground_truth/eval.csv": 'fname,labels,mids\n2,"Bark,Dog","x"\n3,Rain,x\n',
        },
    ),
    "audioset": Layout(
        ("eval/Y--4gqARaEJE.wav", "eval/--BfvyPmVMo_30000.flac"),
        (
            {"split": "test", "o.labels": ["Speech", "Dog"], "o.start": 0.0},
            {"split": "test", "o.labels": ["Dog"]},
        ),
        {
            "class_labels_indices.csv": 'index,mid,display_name\n0,/m/09x0r,"Speech"\n74,/m/0bt9lr,"Dog"\n',
            "eval_segments.csv": "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=3\n"
            "# YTID, start_seconds, end_seconds, positive_labels\n"
            '--4gqARaEJE, 0.000, 10.000, "/m/09x0r,/m/0bt9lr"\n--BfvyPmVMo, 30.000, 40.000, "/m/0bt9lr"\n'
            'gone-------, 30.000, 40.000, "/m/0bt9lr"\n',
        },
        ("eval_segments.csv", 'x, 0.0, 10.0, "/m/unknown"\n', "/m/unknown"),
    ),
    "vggsound": Layout(
        ("video/---g-f_I2yQ_000001.mp4", "video/--0PQM4-hqg_30.wav"),
        (
            {"label": "people marching", "split": "test"},
            {"label": "waterfall burbling", "split": "train", "task": "sound"},
        ),
        {
            "vggsound.csv": "---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,waterfall burbling,train\n"
            '--gone,5,"bird chirping, tweeting",test\n'
        },
    ),
    "audiocaps": Layout(
        ("audio/train/AAA.wav", "audio/test/YBBB.wav", "audio/test/CCC_30.wav"),
        (
            {"split": "train", "text": ("A dog barks",)},
            {"split": "test", "text": ("A man talks", "Someone, speaking")},
            {"split": "test", "o.youtube_id": "CCC"},
            {"split": "test883", "text": ("A man talks",)},
            {"split": "test957", "text": ("a", "b", "c", "d", "e")},
        ),
        {
            "train.csv": "audiocap_id,youtube_id,start_time,caption\n1,AAA,10,A dog barks\n2,gone,0,Rain falls\n",
            "test.csv": "audiocap_id,youtube_id,start_time,caption\n3,BBB,30,A man talks\n4,CCC,30,Wind\n"
            '5,BBB,30,"Someone, speaking"\n',
            "test883.csv": "audiocap_id,youtube_id,start_time,caption\n3,BBB,30,A man talks\n",
            "test957.csv": "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\nYBBB.wav,a,b,c,d,e\n",
        },
    ),
    "clotho": Layout(
        ("evaluation/Santa Motor.wav", "evaluation/Rain.wav"),
        ({"split": "test", "text": tuple("abcde")}, {"text": tuple("fghij")}),
        {
            "clotho_captions_evaluation.csv": "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
            "Santa Motor.wav,a,b,c,d,e\nRain.wav,f,g,h,i,j\n"
        },
    ),
    "macs": Layout(
        ("TAU/audio/airport-barcelona-0-0-a.wav",),
        ({"text": ("People talk.", "Steps"), "o.scene": "airport", "o.tags": ["adults_talking", "footsteps"]},),
        {
            "MACS.yaml": "files:\n- filename: airport-barcelona-0-0-a.wav\n  annotations:\n"
            "  - {annotator_id: 1, sentence: People talk., tags: [adults_talking]}\n"
            "  - {annotator_id: 2, sentence: Steps, tags: [footsteps, adults_talking]}\n"
        },
        ("MACS.yaml", "files:\n- {filename: x.wav}\n", "annotations"),
    ),
    "wavcaps": Layout(
        ("Zip_files/SoundBible/2219.flac", "Zip_files/AudioSet_SL/YAbc.flac"),
        (
            {"split": "blacklisted", "o.source": "AudioSet_SL", "o.id": "YAbc"},
            {"split": "train", "text": ("An airplane is landing.",), "seconds": 14.0, "o.source": "SoundBible"},
        ),
        {
            "json_files/SoundBible/sb_final.json": json.dumps(
                {"data": [{"id": "2219", "caption": "An airplane is landing.", "duration": 14}]}
            ),
            "json_files/AudioSet_SL/as_final.json": json.dumps(
                {"data": [{"id": "YAbc.wav", "caption": "Rain.", "duration": 10}]}
            ),
            "json_files/blacklist/blacklist_exclude_test_ac.json": json.dumps({"AudioSet": ["YAbc.wav"]}),
        },
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
