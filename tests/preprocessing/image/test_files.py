"""Pictures in files: what is read, what is refused, and what iterators over folders and tables make of them."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest

from minikeras.preprocessing.image import (
    DataFrameIterator,
    DirectoryIterator,
    ImageDataGenerator,
    PictureError,
    array_to_img,
    img_to_array,
    list_pictures,
    load_img,
    resize,
    save_img,
    smart_resize,
)

pandas = pytest.importorskip("pandas")
pillow = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)


def picture(shape=(6, 8, 3)):
    return RNG.integers(0, 256, shape).astype("uint8")


def png_of(width, height):
    """A PNG that announces a size and has nothing of it."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def whole(name):
    buffer = io.BytesIO()
    pillow.fromarray(picture((40, 40, 3))).save(buffer, name)
    return buffer.getvalue()


DAMAGED = {
    "empty.png": b"",
    "text.jpg": b"this is no picture",
    "truncated.png": whole("png")[:2000],
    "truncated.jpg": whole("jpeg")[:700],
    "truncated.bmp": whole("bmp")[:700],
    "flipped bits.png": bytes(byte ^ 0x55 if 60 < place < 90 else byte for place, byte in enumerate(whole("png"))),
    "huge.png": png_of(30_000, 30_000),
    "announced.png": png_of(40, 40),
}


@pytest.fixture
def folder(tmp_path):
    """Two classes of four whole pictures, and one without."""
    for name in ("a", "b b", "c"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    for name in ("a", "b b"):
        for number in range(4):
            pillow.fromarray(picture()).save(tmp_path / "tree" / name / f"{number}.png")
    return tmp_path / "tree"


# One file


@pytest.mark.parametrize("name", DAMAGED)
def test_what_cannot_be_read_is_told_in_a_sentence_that_names_the_file(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(DAMAGED[name])
    with pytest.raises(PictureError) as caught:
        load_img(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith("; replace it or leave it out.") and "\n" not in message
    assert isinstance(caught.value, OSError) and isinstance(caught.value, ValueError)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    pillow.fromarray(picture((10, 10, 3))).save(path)
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 49)
    with pytest.raises(PictureError, match=r"large.png cannot be read as a picture: Image size \(100 pixels\) exceeds"):
        load_img(path)


def test_a_program_is_not_run(tmp_path):
    path = tmp_path / "program.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(PictureError, match=r"program.png is a PostScript program, which is not run; convert it"):
        load_img(path)


def test_without_pillow_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    for call in (lambda: load_img(tmp_path / "a.png"), lambda: array_to_img(np.zeros((2, 2, 1)))):
        with pytest.raises(
            ImportError, match=r"needs Pillow, which is not installed; pip install 'minikeras\[images\]'"
        ):
            call()
    x = np.full((1, 3, 3, 1), 100.0)  # brightness needs none
    assert next(ImageDataGenerator(brightness_range=(0.5, 0.5)).flow(x)).max() == 50


def test_what_is_missing_keeps_its_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        load_img(tmp_path / "missing.png")
    with pytest.raises(PictureError, match="The picture in memory is empty, got 0 bytes"):
        load_img(io.BytesIO())
    with pytest.raises(TypeError, match=r"path must be a path or io\.BytesIO, got int"):
        load_img(3)


def test_kinds_of_pictures(tmp_path):
    rgb = pillow.fromarray(picture())
    deep = RNG.integers(0, 65536, (6, 8)).astype("uint16")
    kinds = {
        "rgb.png": rgb,
        "grey.png": rgb.convert("L"),
        "palette.png": rgb.convert("P"),
        "see-through.png": rgb.convert("RGBA"),
        "cmyk.jpg": rgb.convert("CMYK"),
        "bits.png": rgb.convert("1"),
        "deep.png": pillow.fromarray(deep),
        "animated.gif": rgb.convert("P"),
    }
    for name, image in kinds.items():
        path = tmp_path / name
        image.save(path)
        for mode, channels in (("rgb", 3), ("rgba", 4), ("grayscale", 1)):
            for given in (path, str(path), os.fsencode(path), io.BytesIO(path.read_bytes())):
                array = img_to_array(load_img(given, color_mode=mode))
                assert array.shape == (6, 8, channels) and array.dtype == np.float32
    np.testing.assert_array_equal(img_to_array(load_img(tmp_path / "deep.png", "grayscale"))[:, :, 0], deep)
    np.testing.assert_array_equal(img_to_array(load_img(tmp_path / "rgb.png")), np.asarray(rgb))
    # EXIF's rotation is not applied, as in Keras
    turned = pillow.Exif()
    turned[0x0112] = 6
    rgb.save(tmp_path / "turned.png", exif=turned)
    np.testing.assert_array_equal(img_to_array(load_img(tmp_path / "turned.png")), np.asarray(rgb))


def test_sizes_and_wrong_arguments(tmp_path):
    path = tmp_path / "a.png"
    pillow.fromarray(picture((20, 10, 3))).save(path)
    assert load_img(path, target_size=(5, 7)).size == (7, 5)
    cut = load_img(path, target_size=(10, 10), keep_aspect_ratio=True)
    np.testing.assert_array_equal(np.asarray(cut), np.asarray(load_img(path))[5:15])
    with pytest.warns(DeprecationWarning, match="grayscale is Keras 2's argument"):
        assert load_img(path, grayscale=True).mode == "L"
    with pytest.warns(DeprecationWarning):
        assert load_img(path, True).mode == "L"
    with pytest.raises(ValueError, match="color_mode must be 'grayscale', 'rgb' or 'rgba', got 'bgr'"):
        load_img(path, color_mode="bgr")
    with pytest.raises(ValueError, match=r"interpolation must be 'nearest', 'bilinear', .* got 'cubic'"):
        load_img(path, target_size=(3, 3), interpolation="cubic")


def test_arrays_to_pictures_and_back(tmp_path):
    for shape in ((5, 6, 1), (5, 6, 3), (5, 6, 4)):
        x = picture(shape)
        np.testing.assert_array_equal(img_to_array(array_to_img(x, scale=False)), x)
        first = np.moveaxis(x, -1, 0)
        image = array_to_img(first, "channels_first", scale=False)
        np.testing.assert_array_equal(img_to_array(image, "channels_first", "uint8"), first)
        save_img(tmp_path / "a.png", x, scale=False)
        mode = {1: "grayscale", 3: "rgb", 4: "rgba"}[shape[2]]
        np.testing.assert_array_equal(img_to_array(load_img(tmp_path / "a.png", mode)), x)
    stretched = np.asarray(array_to_img(np.linspace(-1, 1, 12).reshape(3, 4, 1)))
    assert stretched.min() == 0 and stretched.max() == 255
    assert np.asarray(array_to_img(np.full((2, 2, 1), 7.0))).max() == 0
    assert array_to_img(np.full((2, 2, 1), 700.0), scale=False).mode == "I"
    with pytest.warns(UserWarning, match="JPEG has no transparency"):
        save_img(tmp_path / "a.jpg", picture((4, 4, 4)))
    stream = io.BytesIO()
    save_img(stream, picture(), file_format="jpg", quality=50)
    assert load_img(stream).size == (8, 6)
    assert img_to_array(np.zeros((2, 3)), "channels_first").shape == (1, 2, 3)
    for wrong in (np.zeros(3), np.zeros((1, 2, 3, 4))):
        with pytest.raises(ValueError, match=r"A picture has rank 2 or 3, got the shape \("):
            img_to_array(wrong)
        with pytest.raises(ValueError, match=r"array_to_img takes one picture of rank 3, got the shape \("):
            array_to_img(wrong)
    with pytest.raises(ValueError, match="A picture has 1, 3 or 4 channels, got 2; check data_format"):
        array_to_img(np.zeros((3, 3, 2)))


def test_resizing():
    x = picture((2, 4, 6, 3))
    np.testing.assert_array_equal(resize(x, (8, 12), "nearest"), x.repeat(2, 1).repeat(2, 2))
    for interpolation in ("bilinear", "bicubic", "lanczos3", "lanczos5"):
        flat = resize(np.full((5, 6, 1), 3.0), (7, 3), interpolation)
        np.testing.assert_allclose(flat, 3)
        assert flat.dtype == np.float64 and resize(x, (9, 9), interpolation).dtype == np.uint8
        np.testing.assert_array_equal(resize(x, (4, 6), interpolation), x)
    ramp = np.arange(8.0).reshape(1, 8, 1)
    np.testing.assert_allclose(resize(ramp, (1, 4)).ravel(), [0.5, 2.5, 4.5, 6.5])
    np.testing.assert_array_equal(smart_resize(x, (4, 2), "nearest"), x[:, :, 2:4])
    assert smart_resize(np.moveaxis(x, -1, 1), (3, 9), data_format="channels_first").shape == (2, 3, 3, 9)
    with pytest.raises(ValueError, match=r"size must be \(height, width\), got \(3,\)"):
        smart_resize(x, (3,))
    with pytest.raises(ValueError, match="smart_resize takes pictures of rank 3 or 4"):
        smart_resize(x[0, 0], (3, 3))
    with pytest.raises(ValueError, match=r"interpolation must be 'nearest', .* got 'triangle'"):
        resize(x, (3, 3), "triangle")


def test_list_pictures(folder):
    assert [os.path.relpath(path, folder) for path in list_pictures(folder)][:2] == ["a/0.png", "a/1.png"]
    assert len(list_pictures(folder, ext="png")) == 8 and list_pictures(folder, ext=("jpg", "bmp")) == []


# Folders


def test_a_folder_of_odd_names(folder, capsys):
    odd = folder / "new\nline ü 100%"
    (odd / "deeper").mkdir(parents=True)
    pillow.fromarray(picture()).save(odd / "deeper" / "Großer Name.PNG")
    (odd / "notes.txt").write_text("")
    flow = ImageDataGenerator().flow_from_directory(folder, (6, 8), batch_size=3, shuffle=False)
    assert "Found 9 images belonging to 4 classes." in capsys.readouterr().out
    assert flow.class_indices == {"a": 0, "b b": 1, "c": 2, odd.name: 3} and flow.num_classes == 4
    assert flow.classes.tolist() == [0] * 4 + [1] * 4 + [3] and len(flow) == 3 and flow.samples == 9
    assert flow.filenames[-1] == os.path.join(odd.name, "deeper", "Großer Name.PNG")
    x, y = flow[2]
    assert x.shape == (3, 6, 8, 3) and y.tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(x[0], img_to_array(load_img(flow.filepaths[6])))
    with pytest.warns(UserWarning, match="The class 'd' has no folder"):
        assert ImageDataGenerator().flow_from_directory(folder, classes=["d", "a"]).samples == 4
    with pytest.raises(ValueError, match=r"A class is the name of a folder in .*, got '\.\.'"):
        ImageDataGenerator().flow_from_directory(folder / "a", classes=[".."])
    with pytest.raises(FileNotFoundError):
        ImageDataGenerator().flow_from_directory(folder / "z")


def test_links_stay_inside_of_the_tree(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    pillow.fromarray(picture()).save(outside / "secret.png")
    (folder / "a" / "inside.png").symlink_to(folder / "b b" / "0.png")
    (folder / "a" / "linked").symlink_to(folder / "b b")
    (folder / "a" / "loop").symlink_to(folder / "a")

    def names(**options):
        flow = ImageDataGenerator().flow_from_directory(folder, **options)
        return [name for name in flow.filenames if name.startswith("a")]

    assert names() == [f"a/{n}.png" for n in (0, 1, 2, 3)] + ["a/inside.png"]
    assert names(follow_links=True) == [*names(), *(f"a/linked/{n}.png" for n in range(4))]
    for link, target in (("c/out.png", outside / "secret.png"), ("c/out", outside), ("d", outside)):
        (folder / link).symlink_to(target)
        if not link.endswith("/out"):
            with pytest.warns(UserWarning, match=r"1 symbolic links that lead out of .* were left out, such as"):
                flow = ImageDataGenerator().flow_from_directory(folder)
            assert flow.samples == 9
        with pytest.raises(ValueError, match=r"The symbolic link .*/(c/out|c/out.png|d)' leads out of .*outside"):
            names(follow_links=True)
        (folder / link).unlink()


@pytest.mark.parametrize("class_mode", ["categorical", "sparse", "binary", "input", None])
def test_damaged_pictures_of_a_folder_are_refused_or_left_out(folder, class_mode):
    (folder / "a" / "2.png").write_bytes(b"")
    (folder / "b b" / "1.png").write_bytes(whole("png")[:900])

    def flow(**options):
        generator = ImageDataGenerator(rotation_range=20, horizontal_flip=True)
        options = {"class_mode": class_mode, "batch_size": 4, "shuffle": False, "seed": 1, **options}
        return generator.flow_from_directory(folder, (6, 8), **options)

    with pytest.raises(PictureError, match=r"a/2.png is empty, got 0 bytes; replace it or leave it out"):
        next(flow())
    skipping = flow(on_error="skip")
    with pytest.warns(UserWarning, match=r"a/2.png is empty.* It is left out"):
        first = next(skipping)
    assert skipping.skipped == 1
    with pytest.warns(UserWarning, match=r"b b/1.png cannot be read as a picture.* It is left out"):
        second = next(skipping)
    assert skipping.skipped == 2
    for batch in (first, second):
        parts = batch if class_mode else (batch,)
        assert all(len(part) == 3 for part in parts) and parts[0].shape == (3, 6, 8, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # each file is told of once
        next(skipping)
    assert skipping.skipped == 3
    # the whole pictures of the batch are what they would be without the damaged one
    pillow.fromarray(picture()).save(folder / "a" / "2.png")
    repaired = next(flow())
    assert class_mode is None or np.array_equal(repaired[1][[0, 1, 3]], first[1])
    np.testing.assert_array_equal((repaired[0] if class_mode else repaired)[[0, 1, 3]], parts_of(first, class_mode))
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'ignore'"):
        flow(on_error="ignore")


def parts_of(batch, class_mode):
    return batch[0] if class_mode else batch


def test_a_batch_of_nothing_but_damaged_pictures_is_empty(folder):
    for number in range(4):
        (folder / "a" / f"{number}.png").write_bytes(b"no")
    flow = ImageDataGenerator(zoom_range=0.2, horizontal_flip=True, samplewise_center=True).flow_from_directory(
        folder, (6, 8), batch_size=4, shuffle=False, on_error="skip"
    )
    with pytest.warns(UserWarning, match="left out"):
        x, y = next(flow)
    assert x.shape == (0, 6, 8, 3) and y.shape == (0, 3) and flow.skipped == 4


@pytest.mark.parametrize(("mode", "channels"), [("rgb", 3), ("rgba", 4), ("grayscale", 1)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_color_modes_subsets_and_resuming(folder, mode, channels, data_format):
    def flow(subset, seed=3):
        generator = ImageDataGenerator(
            rotation_range=40, data_format=data_format, validation_split=0.25, preprocessing_function=lambda x: x + 1
        )
        return generator.flow_from_directory(folder, (5, 4), mode, subset=subset, batch_size=4, seed=seed)

    training, validation = flow("training"), flow("validation")
    assert validation.filenames == ["a/0.png", "b b/0.png"] and training.n == 6
    shape = (5, 4, channels) if data_format == "channels_last" else (channels, 5, 4)
    assert training.image_shape == shape and next(training)[0].shape == (4, *shape)
    state = json.loads(json.dumps(training.get_state()))
    rest = [next(training) for _ in range(3)]
    other = flow("training", seed=99)
    other.set_state(state)
    for (x, y), (x_again, y_again) in zip(rest, (next(other) for _ in range(3)), strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_no_thread_stays_behind(folder):
    before = threading.active_count()
    flow = ImageDataGenerator().flow_from_directory(folder, (5, 5))
    next(flow)
    assert threading.active_count() == before


def test_saved_pictures_and_deep_ones(folder, tmp_path):
    deep = RNG.integers(0, 65536, (6, 8)).astype("uint16")
    pillow.fromarray(deep).save(folder / "c" / "deep.png")
    (tmp_path / "saved").mkdir()
    flow = DirectoryIterator(
        folder, None, (6, 8), "grayscale", ["c"], None, save_to_dir=tmp_path / "saved", save_prefix="d"
    )
    np.testing.assert_array_equal(next(flow)[0, :, :, 0], deep)
    (saved,) = (tmp_path / "saved").iterdir()
    assert saved.name.startswith("d_0_") and saved.suffix == ".png"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"color_mode": "bgr"}, "color_mode must be 'grayscale', 'rgb' or 'rgba', got 'bgr'"),
        ({"class_mode": "raw"}, "class_mode must be .* got 'raw'"),
        ({"subset": "test"}, "subset must be 'training', 'validation' or None, got 'test'"),
        ({"interpolation": "cubic"}, "interpolation must be .* got 'cubic'"),
        ({"target_size": (3, 3, 3)}, r"target_size must be \(height, width\) in pixels, got \(3, 3, 3\)"),
    ],
)
def test_wrong_arguments_are_refused(folder, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        ImageDataGenerator().flow_from_directory(folder, **options)


# Tables


@pytest.fixture
def frame():
    names = [f"{name}/{number}.png" for name in ("a", "b b") for number in range(4)]
    return pandas.DataFrame(
        {"filename": names, "class": ["x", "y"] * 4, "value": np.arange(8.0), "list": [["x"], ["x", "y"]] * 4}
    )


def flow_of(frame, folder, **options):
    options = {"target_size": (6, 8), "shuffle": False, **options}
    return ImageDataGenerator(validation_split=0.25).flow_from_dataframe(frame, folder, **options)


def test_class_modes_of_a_table(frame, folder, capsys):
    flow = flow_of(frame, folder, weight_col="value", batch_size=3)
    assert capsys.readouterr().out == "Found 8 validated image filenames belonging to 2 classes.\n"
    x, y, weights = next(flow)
    assert x.shape == (3, 6, 8, 3) and y.tolist() == [[1, 0], [0, 1], [1, 0]] and weights.tolist() == [0, 1, 2]
    assert next(flow_of(frame, folder, y_col="list"))[1].tolist() == [[1, 0], [1, 1]] * 4
    assert next(flow_of(frame, folder, class_mode="sparse", classes=["y", "x"]))[1].tolist() == [1, 0] * 4
    assert next(flow_of(frame, folder, classes=["y"]))[1].tolist() == [[1]] * 4
    assert next(flow_of(frame, folder, class_mode="raw", y_col="value"))[1].tolist() == list(range(8))
    assert next(flow_of(frame, folder, class_mode="raw", y_col=["value", "value"]))[1].shape == (8, 2)
    outputs = next(flow_of(frame, folder, class_mode="multi_output", y_col=["value", "class"]))[1]
    assert outputs[0].tolist() == list(range(8)) and outputs[1].tolist() == ["x", "y"] * 4
    x, same = next(flow_of(frame, folder, class_mode="input"))
    assert (x == same).all() and not np.shares_memory(x, same)
    assert next(flow_of(frame, folder, class_mode=None)).shape == (8, 6, 8, 3)
    assert flow_of(frame, folder, subset="validation").filenames == ["a/0.png", "a/1.png"]
    absolute = frame.assign(filename=[str(folder / name) for name in frame["filename"]])
    assert flow_of(absolute, None).n == flow_of(absolute, folder).n == 8
    with pytest.warns(DeprecationWarning, match="class_mode='other' is now 'raw'"):
        assert flow_of(frame, folder, class_mode="other", y_col="value").class_mode == "raw"
    with pytest.warns(DeprecationWarning, match="has_ext is Keras 2's argument"):
        flow_of(frame, folder, has_ext=True)
    with pytest.raises(TypeError, match="flow_from_dataframe has no argument 'wrong'"):
        flow_of(frame, folder, wrong=1)
    assert DataFrameIterator(frame, folder, None, batch_size=2).image_shape == (256, 256, 3)


def test_a_table_leads_nowhere_else(frame, folder, tmp_path):
    secret = tmp_path / "secret.png"
    pillow.fromarray(picture()).save(secret)
    (folder / "link.png").symlink_to(secret)
    for name in ("../secret.png", str(secret), "a/../../secret.png", "link.png", "..", "a/../.."):
        for validate in (True, False):
            with pytest.raises(ValueError, match=r"The file name .* leads out of directory=.*; remove that row"):
                flow_of(frame.assign(filename=[name, *frame["filename"][1:]]), folder, validate_filenames=validate)


def test_missing_and_damaged_files_of_a_table(frame, folder):
    (folder / "a" / "1.png").unlink()
    (folder / "a" / "2.png").write_bytes(b"no")
    with pytest.warns(UserWarning, match="1 file names of the column 'filename' are no pictures that exist, such as"):
        flow = flow_of(frame, folder, class_mode="raw", y_col="value", weight_col="value", on_error="skip")
    assert flow.n == 7
    with pytest.warns(UserWarning, match="It is left out"):
        x, y, weights = next(flow)
    assert len(x) == 6 and y.tolist() == weights.tolist() == [0, 3, 4, 5, 6, 7] and flow.skipped == 1
    blind = flow_of(
        frame, folder, validate_filenames=False, on_error="skip", class_mode="multi_output", y_col=["value"]
    )
    with pytest.warns(UserWarning, match="It is left out"):
        x, (y,) = next(blind)
    assert len(x) == len(y) == 6 and blind.skipped == 2
    with pytest.raises(FileNotFoundError, match=r"a/1.png"):
        next(flow_of(frame, folder, validate_filenames=False))


@pytest.mark.parametrize(
    ("column", "options", "error", "sentence"),
    [
        ({}, {"class_mode": "wrong"}, ValueError, "class_mode must be .* got 'wrong'"),
        ({}, {"class_mode": "multi_output"}, TypeError, "needs a list of columns for y_col, got 'class'"),
        ({}, {"y_col": "z"}, KeyError, "The table has no column 'z', only 'filename', 'class'"),
        ({"filename": 3}, {}, TypeError, "The column 'filename' must hold file names as strings, got 3"),
        ({"class": 3}, {"class_mode": "sparse"}, TypeError, "class_mode='sparse' needs strings in the column"),
        ({"class": 3}, {}, TypeError, "needs strings, or lists or tuples of them in the column 'class', got 3"),
        ({"class": "z"}, {"class_mode": "binary"}, ValueError, "class_mode='binary' needs two classes, got 1"),
        ({}, {"class_mode": "binary", "classes": ["x"]}, ValueError, "needs two classes, got 1"),
        ({}, {"weight_col": "class"}, TypeError, "The column 'class' must hold weights as numbers"),
    ],
)
def test_tables_that_do_not_fit_are_refused(frame, folder, column, options, error, sentence):
    with pytest.raises(error, match=sentence):
        flow_of(frame.assign(**column), folder, **options)


def test_classes_that_are_not_used_are_told_of(frame, folder):
    with pytest.warns(UserWarning, match="classes are not used with class_mode=None"):
        flow_of(frame, folder, class_mode=None, classes=["x"])
