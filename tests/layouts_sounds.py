"""Layouts of corpora of sounds, and of captions of sounds."""

from __future__ import annotations

import json

from layout import Layout, cut

SOUNDS: dict[str, Layout] = {
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
            {"split": "valid-ja", "text": ("男性が話す",), "o.youtube_id": "BBB"},
            {"split": "test-ja", "text": ("男性が話す",)},
            {"split": "test957", "text": ("a", "b", "c", "d", "e")},
        ),
        {
            "train.csv": "audiocap_id,youtube_id,start_time,caption\n1,AAA,10,A dog barks\n2,gone,0,Rain falls\n",
            "test.csv": "audiocap_id,youtube_id,start_time,caption\n3,BBB,30,A man talks\n4,CCC,30,Wind\n"
            '5,BBB,30,"Someone, speaking"\n',
            "test883.csv": "audiocap_id,youtube_id,start_time,caption\n3,BBB,30,A man talks\n",
            "val_ja.csv": "audiocap_id,youtube_id,start_time,caption\n9,BBB,30,男性が話す\n",
            "captions/ja/test.csv": "audiocap_id,youtube_id,start_time,caption\n3,BBB,30,男性が話す\n",
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
}
