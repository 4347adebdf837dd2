"""Layouts of corpora of emotional speech."""

from __future__ import annotations

from layout import Layout, cut


def seven(*names: str) -> tuple[str, ...]:
    return tuple(f"Actor_{n[-2:]}/{n}.wav" for n in names)


EMOTION: dict[str, Layout] = {
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
}
