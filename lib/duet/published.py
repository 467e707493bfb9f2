"""The papers' own numbers, each with its table.  Nothing here was measured by this project."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """What a citation needs."""

    authors: str
    title: str
    venue: str
    doi: str = ""

    def __str__(self) -> str:
        return f"{self.authors}. {self.title}. {self.venue}." + (f" doi:{self.doi}" if self.doi else "")


TRANSFER_LEARNING = Paper(
    "M. Alfaro-Contreras, J. J. Valero-Mas, J. M. Iñesta, J. Calvo-Zaragoza",
    "Insights into Transfer Learning between Image and Audio Music Transcription",
    "SMC 2022, pp. 295-301",
    "10.5281/zenodo.6797870",
)

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
#: Section 4.1 gives four cells of Table 2 with two decimals
TRANSFER_TEXT = {"image": 9.58, "audio-to-image N/A": 5.31, "audio": 29.24, "image-to-audio 5:5": 28.32}

#: Table 3: symbol error rate in percent by training size, on the target's test part
TRANSFER_TABLE_3: dict[tuple[str, str], dict[int, float]] = {
    ("image", "scratch"): {50: 95.3, 75: 95.2, 100: 94.9, 250: 63.6, 500: 37.0, 1000: 23.7},
    ("image", "transfer"): {50: 92.1, 75: 89.7, 100: 90.8, 250: 79.5, 500: 77.6, 1000: 49.9},
    ("audio", "scratch"): {50: 93.5, 75: 56.7, 100: 57.0, 250: 45.9, 500: 40.4, 1000: 37.5},
    ("audio", "transfer"): {50: 64.0, 75: 57.7, 100: 53.6, 250: 47.3, 500: 41.9, 1000: 38.4},
}
