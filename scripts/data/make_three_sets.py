"""Three small sets of labelled images that nobody tuned for: letters, emoji and tiles of photos.

    apt-get download $(apt-cache search --names-only '^fonts-' | cut -d' ' -f1)  # dpkg-deb -x
    npm pack emoji-datasource-apple emoji-datasource-google emoji-datasource-twitter  # tar xzf
    pip download --no-deps ai-benchmark==0.1.2                                        # unzip
    python scripts/data/make_three_sets.py --out DIR --fonts DIR --emoji DIR --photos DIR

letters: grey, 40 pixels, 26 classes; the letters to test on are of other families of fonts.
emoji:   coloured, 64 pixels, nine classes (the categories); those to test on are other emoji.
tiles:   48 to 240 pixels, 40 classes (the photo a tile is of); tiles to test on are of the right
         third of the photo, those to train on of the left two thirds.

OUT/letters/{train,test}/CLASS/…, and OUT/letters_few_0, _1 and _2 with a few labels of each class.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TEST_SHARE = 0.25
"""Of the families of fonts, and of the emoji."""

MOST_TEST = 1000
"""Images to test on in the sets with few labels."""

LABELS = {"letters": 10, "emoji": 30, "tiles": 10}
"""Labels of each class in the sets with few."""

VENDORS = ("apple", "google", "twitter")


def split_of(name: str) -> str:
    """Return the split of whatever has this name, the same at every call."""
    part = int(hashlib.md5(name.encode()).hexdigest(), 16) % 1000 / 1000
    return "test" if part < TEST_SHARE else "train"


def save(image: Image.Image, folder: Path, name: str) -> None:
    """Write an image into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, quality=90)


def make_letters(out: Path, fonts: Path, rng: random.Random) -> None:
    """Draw eight capital letters of each font, at a random place and of random greys."""
    files = sorted(file for file in fonts.rglob("*") if file.suffix in (".ttf", ".otf"))
    for number, file in enumerate(files):
        family = file.stem.split("-")[0].split("_")[0].lower()[:8]
        try:
            font = ImageFont.truetype(file, 34)
            if bytes(font.getmask("A")) == bytes(font.getmask("B")):
                continue  # of boxes, for letters that it lacks
        except OSError:
            continue
        for letter in rng.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 8):
            image = Image.new("L", (40, 40), rng.randint(0, 60))
            draw = ImageDraw.Draw(image)
            left, top, right, bottom = draw.textbbox((0, 0), letter, font=font)
            if not (4 < right - left < 48 and 8 < bottom - top < 48):
                continue
            x = 20 - (left + right) / 2 + rng.randint(-3, 3)
            y = 20 - (top + bottom) / 2 + rng.randint(-3, 3)
            draw.text((x, y), letter, font=font, fill=rng.randint(150, 255))
            save(image, out / split_of(family) / letter, f"{number}.png")


def make_emoji(out: Path, emoji: Path) -> None:
    """Put the emoji of each vendor on white."""
    for vendor in VENDORS:
        package = next(emoji.rglob(f"img/{vendor}/64")).parents[2]
        for one in json.loads((package / "emoji.json").read_text()):
            file = package / "img" / vendor / "64" / one["image"]
            if one["category"] != "Component" and file.exists():
                image = Image.open(file).convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                white.alpha_composite(image)
                folder = out / split_of(one["image"]) / one["category"].split()[0]
                save(white.convert("RGB"), folder, f"{vendor}_{one['image']}")


def make_tiles(out: Path, photos: Path, rng: random.Random) -> None:
    """Cut tiles of random sizes from 40 photos."""
    for number, file in enumerate(sorted(photos.rglob("enhancement/*.jpg"))[:40]):
        photo = Image.open(file).convert("RGB")
        width, height = photo.size
        parts = (("train", 0, int(0.65 * width), 150), ("test", int(0.7 * width), width, 40))
        for split, left, right, tiles in parts:
            for tile in range(tiles):
                w = rng.randint(64, 240)
                h = min(max(48, int(w * rng.uniform(0.6, 1.6))), right - left, height)
                x, y = rng.randint(left, right - w), rng.randint(0, height - h)
                box = (x, y, x + w, y + h)
                save(photo.crop(box), out / split / f"photo_{number:02}", f"{tile}.jpg")


def make_few(whole: Path, out: Path, per_class: int, seed: int) -> None:
    """Copy a few labels of each class, and some of the images to test on."""
    rng = random.Random(seed)
    for folder in sorted((whole / "train").iterdir()):
        (out / "train" / folder.name).mkdir(parents=True)
        for file in rng.sample(sorted(folder.iterdir()), per_class):
            shutil.copy(file, out / "train" / folder.name)
    tests = sorted((whole / "test").rglob("*.*"))
    for file in random.Random(0).sample(tests, min(MOST_TEST, len(tests))):
        (out / "test" / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, out / "test" / file.parent.name)


def main() -> None:
    """Make the three sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("out", "fonts", "emoji", "photos"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    rng = random.Random(0)
    make_letters(options.out / "letters", options.fonts, rng)
    make_emoji(options.out / "emoji", options.emoji)
    make_tiles(options.out / "tiles", options.photos, rng)
    for name, per_class in LABELS.items():
        whole = options.out / name
        for seed in range(3):
            make_few(whole, options.out / f"{name}_few_{seed}", per_class, seed)
        counts = [len(list((whole / split).rglob("*.*"))) for split in ("train", "test")]
        print(f"{name}: {counts[0]} images to train on, {counts[1]} to test on")


if __name__ == "__main__":
    main()
