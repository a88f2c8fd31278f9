"""Makes the pictures of this folder and expected.txt, by the reference implementation of PDQ.

python -m venv venv && venv/bin/pip install pdqhash==0.2.8 numpy==2.4.6 pillow==13.0.0 scikit-image==0.26.0 scikit-learn==1.9.1
venv/bin/python make.py
"""

import math
from pathlib import Path

import numpy as np
import pdqhash
import skimage
import sklearn.datasets
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.datasets.__file__).parent / "images"


def photo(folder, name, width, height):
    return Image.open(folder / name).convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


def drawing(width, height, seed):
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), (250, 246, 230))
    draw = ImageDraw.Draw(picture)
    for _ in range(24):
        x, y = random.integers(0, width), random.integers(0, height)
        size = int(random.integers(min(width, height) // 12 + 1, min(width, height) // 3 + 2))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        match random.integers(0, 3):
            case 0:
                draw.ellipse((x - size, y - size, x + size, y + size), fill=colour, outline=(0, 0, 0))
            case 1:
                draw.rectangle((x - size, y - size // 2, x + size, y + size // 2), fill=colour)
            case _:
                corners = [(x + size * math.cos(a), y + size * math.sin(a)) for a in (0.3, 2.1, 4.4)]
                draw.polygon(corners, fill=colour, outline=(0, 0, 0))
    return picture


def transparent(picture):
    picture = picture.convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


def sixteen_bits(picture):
    values = np.asarray(picture.convert("L")).astype(np.uint16)
    return Image.fromarray(values * 256 + 77)


def turned_by_the_camera():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def pictures():
    astronaut = photo(SKIMAGE, "astronaut.png", 256, 256)
    cat = photo(SKIMAGE, "chelsea.png", 226, 150)
    coffee = photo(SKIMAGE, "coffee.png", 300, 200)
    yield "astronaut.jpg", astronaut, {"quality": 80}
    yield "astronaut-progressive.jpg", astronaut, {"quality": 40, "progressive": True}
    yield "astronaut-turned-by-the-camera.jpg", astronaut, {"quality": 50, "exif": turned_by_the_camera()}
    yield "camera-wide.jpg", photo(SKIMAGE, "camera.png", 1000, 300).convert("L"), {"quality": 30}
    yield "cat-lossy.webp", cat, {"quality": 60}
    yield "cat-cmyk.jpg", cat.convert("CMYK"), {"quality": 60}
    yield "coffee.gif", coffee.resize((150, 100)).quantize(32), {}
    yield "coffee-large.webp", photo(SKIMAGE, "coffee.png", 1201, 801), {"quality": 5}
    yield "rocket-5000.jpg", photo(SKIMAGE, "rocket.jpg", 5000, 60), {"quality": 20}
    yield "china.tiff", photo(SKLEARN, "china.jpg", 96, 64), {"compression": "tiff_lzw"}
    yield "china-tall.jpg", photo(SKLEARN, "china.jpg", 63, 300), {"quality": 70}
    yield "flower.bmp", photo(SKLEARN, "flower.jpg", 64, 64), {}
    yield "drawing.png", drawing(400, 300, 1), {}
    yield "drawing-palette.png", drawing(513, 511, 2).quantize(16), {}
    yield "drawing-transparent.png", transparent(drawing(200, 129, 3)), {}
    yield "drawing-transparent.webp", transparent(drawing(127, 65, 4)), {"lossless": True, "exact": True}
    yield "drawing-sixteen-bits.png", sixteen_bits(drawing(140, 90, 5)), {}
    yield "drawing-black-and-white.tiff", drawing(700, 500, 6).convert("1", dither=0), {"compression": "group4"}
    yield "drawing.gif", drawing(2000, 40, 7).quantize(16), {}
    yield "drawing-small.bmp", drawing(7, 5, 8), {}
    yield "clock-blurred.jpg", photo(SKIMAGE, "clock_motion.png", 200, 150).convert("L"), {"quality": 60}


def pixels(path):
    picture = Image.open(path)
    if picture.mode.startswith("I;16"):
        return np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.ascontiguousarray(picture.convert("RGB"))


def text(bits):
    return np.packbits(bits.astype(np.uint8)).tobytes().hex()


lines = ["# name, quality, then PDQ as it is and turned: rotate90 180 270, flipx, flipy, flipplus1, flipminus1; see make.py"]
for name, picture, options in pictures():
    picture.save(HERE / name, **options)
    hashes, quality = pdqhash.compute_dihedral(pixels(HERE / name))
    lines.append(" ".join([name, str(quality), *map(text, hashes)]))
(HERE / "expected.txt").write_text("\n".join(lines) + "\n")
