"""The papers' own numbers, each with its table.  Nothing here was measured by this project."""

from __future__ import annotations

# ----------------------------------------------------------------------------------------------------------------------
# M. Alfaro-Contreras, J. J. Valero-Mas, J. M. Iñesta, J. Calvo-Zaragoza: Insights into Transfer Learning between Image
# and Audio Music Transcription.  SMC 2022, pp. 295-301, doi:10.5281/zenodo.6797870.

#: Trainable parameters of Table 1's network at 256 rows and 1,166 tokens plus blank, counted on its code
TRANSFER_PARAMETERS = 3_751_247
TRANSFER_OUTPUTS = 1_167

#: Table 2: symbol error rate in percent on the image and on the audio test part, by model
TRANSFER_TABLE_2: dict[str, dict[str, float]] = {
    "image": {"image": 9.6, "audio": 98.9},
    "audio": {"image": 331.2, "audio": 29.2},
    "image-to-audio N/A": {"image": 392.4, "audio": 28.6},
    "image-to-audio 5:5": {"image": 198.2, "audio": 28.3},
    "image-to-audio 4:5": {"image": 104.0, "audio": 40.3},
    "image-to-audio 3:5": {"image": 87.2, "audio": 86.7},
    "image-to-audio 2:5": {"image": 97.3, "audio": 93.9},
    "audio-to-image N/A": {"image": 5.3, "audio": 98.4},
    "audio-to-image 5:5": {"image": 17.6, "audio": 97.6},
    "audio-to-image 4:5": {"image": 41.1, "audio": 95.6},
    "audio-to-image 3:5": {"image": 96.0, "audio": 96.0},
    "audio-to-image 2:5": {"image": 96.0, "audio": 96.0},
}

#: Table 3: symbol error rate in percent by training size, on the target's test part
TRANSFER_TABLE_3: dict[tuple[str, str], dict[int, float]] = {
    ("image", "scratch"): {50: 95.3, 75: 95.2, 100: 94.9, 250: 63.6, 500: 37.0, 1000: 23.7},
    ("image", "transfer"): {50: 92.1, 75: 89.7, 100: 90.8, 250: 79.5, 500: 77.6, 1000: 49.9},
    ("audio", "scratch"): {50: 93.5, 75: 56.7, 100: 57.0, 250: 45.9, 500: 40.4, 1000: 37.5},
    ("audio", "transfer"): {50: 64.0, 75: 57.7, 100: 53.6, 250: 47.3, 500: 41.9, 1000: 38.4},
}

# ----------------------------------------------------------------------------------------------------------------------
# F. Zalkow, M. Müller: Using Weakly Aligned Score-Audio Pairs to Train Deep Chroma Models for Cross-Modal Music
# Retrieval.  ISMIR 2020, pp. 184-191.

#: Trainable parameters of Table 2's network, counted on its released weights
CTC_PARAMETERS = 72_970

#: Table 1: number, mean and total duration in seconds
CTC_TABLE_1 = {"themes": (2048, 9, 17_698), "recordings": (1114, 386, 430_107)}

#: The columns of Tables 3 to 6
CTC_MEASURES = ("top 1", "top 5", "top 10", "top 20", "top 50", "MRR")
#: Table 3: by feature rate in Hz and method
CTC_TABLE_3 = {
    (10, "source-filter"): (0.754, 0.835, 0.861, 0.885, 0.913, 0.792),
    (10, "salience"): (0.693, 0.788, 0.823, 0.853, 0.896, 0.739),
    (25, "source-filter"): (0.820, 0.892, 0.910, 0.925, 0.952, 0.854),
    (25, "salience"): (0.763, 0.844, 0.867, 0.895, 0.931, 0.802),
}
#: Table 4: by test fold (1 is Beethoven), 0 is all of them; queries of each fold
CTC_TABLE_4 = {
    1: (0.891, 0.946, 0.961, 0.971, 0.977, 0.918),
    2: (0.823, 0.887, 0.917, 0.938, 0.954, 0.855),
    3: (0.839, 0.911, 0.933, 0.944, 0.954, 0.872),
    4: (0.903, 0.949, 0.952, 0.962, 0.976, 0.922),
    5: (0.855, 0.919, 0.935, 0.949, 0.976, 0.885),
    0: (0.865, 0.925, 0.941, 0.955, 0.968, 0.893),
}
#: Tables 5 and 6: frame-wise cross-entropy, and the better rank of CTC and source-filter for each query
CTC_TABLE_5 = {"ctc": CTC_TABLE_4[0], "cce": (0.814, 0.890, 0.907, 0.929, 0.951, 0.849)}
CTC_TABLE_6 = {
    "source-filter": CTC_TABLE_3[25, "source-filter"],
    "ctc": CTC_TABLE_4[0],
    "oracle": (0.904, 0.947, 0.958, 0.967, 0.983, 0.924),
}

# -- study 4 -----------------------------------------------------------------------------------------------------------

# ----------------------------------------------------------------------------------------------------------------------
# M. Les, M. Wozniak: Transfer of knowledge among instruments in automatic music transcription.  arXiv
# preprint, 2023.

#: Trainable parameters of the network, counted on the released code
TRANSCRIBER_PARAMETERS = 1_350_145

#: Tables 1 (frame), 2 (note) and 3 (note with offset): precision, recall, F1 by what was trained on and tested on
TRANSCRIPTION_TABLES = {
    "frame": {
        "maps": {"maps": (0.745, 0.697, 0.718), "guitar": (0.714, 0.712, 0.703)},
        "guitar": {"maps": (0.535, 0.375, 0.434), "guitar": (0.900, 0.832, 0.863)},
        "si": {"maps": (0.673, 0.362, 0.439), "guitar": (0.732, 0.394, 0.489)},
        "si-to-maps": {"maps": (0.810, 0.656, 0.722), "guitar": (0.781, 0.644, 0.692)},
        "si-to-guitar": {"maps": (0.533, 0.412, 0.460), "guitar": (0.876, 0.873, 0.873)},
        "guitar-to-maps": {"maps": (0.765, 0.656, 0.704), "guitar": (0.710, 0.698, 0.692)},
        "maps-to-guitar": {"maps": (0.528, 0.424, 0.466), "guitar": (0.860, 0.884, 0.870)},
    },
    "note": {
        "maps": {"maps": (0.630, 0.663, 0.642), "guitar": (0.615, 0.708, 0.646)},
        "guitar": {"maps": (0.232, 0.234, 0.229), "guitar": (0.795, 0.733, 0.754)},
        "si": {"maps": (0.494, 0.414, 0.423), "guitar": (0.589, 0.534, 0.537)},
        "si-to-maps": {"maps": (0.655, 0.690, 0.669), "guitar": (0.678, 0.754, 0.701)},
        "si-to-guitar": {"maps": (0.215, 0.250, 0.227), "guitar": (0.751, 0.747, 0.740)},
        "guitar-to-maps": {"maps": (0.624, 0.682, 0.648), "guitar": (0.588, 0.741, 0.642)},
        "maps-to-guitar": {"maps": (0.242, 0.239, 0.236), "guitar": (0.767, 0.733, 0.740)},
    },
    "offset": {
        "maps": {"maps": (0.406, 0.428, 0.414), "guitar": (0.246, 0.298, 0.265)},
        "guitar": {"maps": (0.062, 0.061, 0.060), "guitar": (0.583, 0.554, 0.564)},
        "si": {"maps": (0.236, 0.191, 0.198), "guitar": (0.102, 0.104, 0.100)},
        "si-to-maps": {"maps": (0.423, 0.445, 0.432), "guitar": (0.221, 0.260, 0.236)},
        "si-to-guitar": {"maps": (0.063, 0.072, 0.066), "guitar": (0.547, 0.556, 0.548)},
        "guitar-to-maps": {"maps": (0.392, 0.428, 0.407), "guitar": (0.236, 0.312, 0.264)},
        "maps-to-guitar": {"maps": (0.071, 0.070, 0.069), "guitar": (0.574, 0.566, 0.566)},
    },
}

# -- study 2 -----------------------------------------------------------------------------------------------------------

# ----------------------------------------------------------------------------------------------------------------------
# L. Carvalho, G. Widmer: Passage Summarization with Recurrent Models for Audio-Sheet Music Retrieval.  ISMIR
# 2023.

#: Pieces of each part (of the released split), training passages before and after augmentation, test pairs of each set
PASSAGE_PIECES = {"train": 325, "valid": 48, "test": 94}
PASSAGE_COUNTS = {"train": 5_000, "augmented": 40_000, "test": 534}

#: Table 1: either encoder; a line of convolutions goes with the pooling behind it
PASSAGE_TABLE_1 = (
    "2x Conv(3, pad-1)-24 - BN, MaxPooling(2)",
    "2x Conv(3, pad-1)-48 - BN, MaxPooling(2)",
    "2x Conv(3, pad-1)-96 - BN, MaxPooling(2)",
    "2x Conv(3, pad-1)-96 - BN, MaxPooling(2)",
    "Conv(1, pad-0)-32 - BN, FC(32)",
)

PASSAGE_MEASURES = ("R@1", "R@10", "R@25", "MRR", "MR")
#: Table 2: recall in percent, mean reciprocal and median rank among 534 candidates, by set and model: audio to sheet,
#: then sheet to audio
PASSAGE_TABLE_2 = {
    "I": {
        "snippet": ((47.56, 81.68, 90.80, 0.592, 1), (51.37, 83.51, 92.59, 0.628, 1)),
        "rnn": ((51.12, 84.46, 92.88, 0.627, 1), (54.30, 85.95, 94.94, 0.670, 1)),
        "rnn-ft": ((55.27, 87.98, 95.02, 0.651, 1), (56.32, 87.12, 96.44, 0.697, 1)),
        "rnn-ft-cca": ((60.04, 89.66, 97.73, 0.692, 1), (62.11, 91.44, 98.41, 0.734, 1)),
        "rnn-fz": ((50.76, 84.20, 92.11, 0.619, 1), (52.90, 85.21, 94.12, 0.658, 1)),
        "rnn-fz-cca": ((52.67, 86.46, 92.88, 0.635, 1), (55.67, 86.30, 95.34, 0.682, 1)),
    },
    "II": {
        "snippet": ((20.19, 55.47, 74.99, 0.343, 7), (25.15, 70.27, 83.11, 0.391, 5)),
        "rnn": ((25.09, 61.24, 78.27, 0.374, 5), (30.15, 72.47, 86.89, 0.439, 3)),
        "rnn-ft": ((28.87, 66.41, 81.32, 0.447, 4), (33.98, 75.47, 88.51, 0.462, 2)),
        "rnn-ft-cca": ((33.36, 69.49, 83.88, 0.481, 3), (37.35, 79.22, 89.95, 0.538, 1)),
        "rnn-fz": ((25.83, 62.02, 79.74, 0.376, 5), (31.45, 74.87, 87.26, 0.442, 3)),
        "rnn-fz-cca": ((26.82, 63.33, 80.19, 0.391, 5), (33.55, 75.71, 88.79, 0.467, 2)),
    },
    "III": {
        "snippet": ((15.67, 31.46, 48.12, 0.226, 29), (18.30, 36.71, 54.94, 0.266, 18)),
        "rnn": ((19.11, 35.98, 53.65, 0.278, 21), (22.76, 39.95, 57.47, 0.303, 15)),
        "rnn-ft": ((22.39, 39.53, 57.19, 0.338, 18), (26.76, 42.77, 59.38, 0.371, 7)),
        "rnn-ft-cca": ((26.62, 44.81, 60.01, 0.362, 7), (29.84, 46.71, 60.88, 0.435, 4)),
        "rnn-fz": ((17.65, 33.12, 52.98, 0.252, 22), (19.13, 37.51, 55.57, 0.277, 17)),
        "rnn-fz-cca": ((18.38, 35.81, 54.51, 0.279, 21), (22.30, 38.95, 58.82, 0.285, 16)),
    },
}
#: Table 3: mean reciprocal rank by tempo, 0.5, 0.66, 1, 1.33 and 2 times as fast, in the same order of directions
PASSAGE_TABLE_3 = {
    "snippet": ((0.47, 0.54, 0.59, 0.52, 0.40), (0.54, 0.59, 0.63, 0.56, 0.48)),
    "rnn": ((0.53, 0.59, 0.63, 0.58, 0.43), (0.60, 0.64, 0.67, 0.61, 0.50)),
}

# -- study 3 -----------------------------------------------------------------------------------------------------------

# ----------------------------------------------------------------------------------------------------------------------
# M. Dorfer, A. Arzt, G. Widmer: Learning Audio-Sheet Music Correspondences for Score Identification and Offline
# Alignment.  ISMIR 2017.

#: Section 2.2: pieces and pairs of each part
ALIGNMENT_PIECES = {"train": 13, "valid": 1, "test": 26}
ALIGNMENT_PAIRS = {"train": 18_432, "valid": 989, "test": 11_821}

#: Table 1: layers of either pathway; a line of convolutions goes with the line of activation and pooling behind it
ALIGNMENT_TABLE_1 = (
    "2 x Conv(3, pad-1)-12, BN-ELU + MP(2)",
    "2 x Conv(3, pad-1)-24, BN-ELU + MP(2)",
    "2 x Conv(3, pad-1)-48, BN-ELU + MP(2)",
    "2 x Conv(3, pad-1)-48, BN-ELU + MP(2)",
    "Conv(1, pad-0)-32-BN-LINEAR",
    "GlobalAveragePooling",
)

ALIGNMENT_MEASURES = ("R@1", "R@10", "R@25", "MR")
#: Table 2: recall in percent and median rank, audio to sheet, among 11,821 candidates, by augmentation
ALIGNMENT_TABLE_2 = {
    "tempi": (0.37, 3.73, 7.05, 771),
    "synths": (0.75, 6.26, 11.52, 559),
    "synths-tempi": (0.87, 8.23, 15.29, 332),
    "scale": (0.75, 5.60, 10.14, 524),
    "vertical": (0.91, 6.57, 12.21, 449),
    "horizontal": (0.44, 3.66, 7.19, 808),
    "sheet": (0.70, 5.72, 11.03, 496),
    "none": (0.33, 2.88, 5.71, 1042),
    "all": (1.70, 11.67, 21.17, 168),
    "chance": (0.00, 0.03, 0.21, 5923),
}
#: Table 3: of 26 pieces, how many are at rank 1, 2, 3 and beyond
ALIGNMENT_TABLE_3 = {"none": (4, 7, 1, 14), "all": (24, 2, 0, 0)}
#: Figure 7: median alignment error in page widths, and as the text gives it in millimetres; dynamic time warping is on
#: the embedding of full augmentation
ALIGNMENT_FIGURE_7 = {"linear": (0.213, 45), "all": (0.041, 9)}
