"""A run is packed and unpacked in one process here; other processes are in tests/integration/test_processes.py."""

import abc
import dataclasses
import enum
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from lightning.pytorch import Trainer
from torch.utils import _pytree as pytree

from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.training.engines.choice import EngineOptions
from lightning_memaudit.training.factories import as_given, data_factory, model_factory, trainer_recipe
from lightning_memaudit.training.population import Recipe
from lightning_memaudit.training.timing import Thresholds
from lightning_memaudit.training.workers import serialization
from lightning_memaudit.training.workers.serialization import NotSentError, SerializedRun, import_path, pack, unpack
from tests.helpers.tiny import TRAINER, TinyData, TinyNet

LARGE = 40_000
OPTIONS = EngineOptions("off", Thresholds(use_workers=3.0))


def serialized(*, model=TinyNet, data=TinyData, **recipe) -> SerializedRun:
    recipe = {"trainer": trainer_recipe(TRAINER)} | recipe
    recipe = Recipe(model_factory(model, None), as_given(data_factory(data)), **recipe)
    return SerializedRun(
        recipe, {"n_examples": 3}, "store", {"engine": "trainer"}, (5,), ("a note",), import_path(), OPTIONS
    )


def sent(
    packed: SerializedRun, folder: Path, rows: TensorRows | None = None
) -> tuple[SerializedRun, TensorRows | None]:
    pack(packed, folder, rows=rows)
    return unpack(folder)


def carried(thing, folder: Path):
    """Something on a data module, after its journey."""
    data = TinyData()
    data.thing = thing
    return sent(serialized(data=data), folder)[0].recipe.data().thing


def addresses(path: Path) -> list[range]:
    """Where in the memory of this process a file is mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    bounds = [line.split()[0].split("-") for line in lines if str(path) in line]
    return [range(int(low, 16), int(high, 16)) for low, high in bounds]


def test_all_of_a_run_arrives(tmp_path: Path) -> None:
    found, rows = sent(serialized(splits=["train"]), tmp_path)
    assert (found.plan, found.store, found.choice) == ({"n_examples": 3}, "store", {"engine": "trainer"})
    assert (found.damaged, found.notes, found.recipe.splits) == ((5,), ("a note",), ["train"])
    assert found.options == OPTIONS
    assert isinstance(found.recipe.model(), TinyNet)
    assert rows is None


def test_lambdas_closures_and_local_classes_travel_by_value(tmp_path: Path) -> None:
    width = 11

    class Local(TinyNet):
        pass

    assert sent(serialized(model=lambda: Local(width)), tmp_path)[0].recipe.model().hparams["width"] == 11


def test_types_that_are_no_plain_classes_travel_by_value(tmp_path: Path) -> None:
    class Colour(enum.Enum):
        RED = "red"

    class Base(abc.ABC):
        @abc.abstractmethod
        def f(self): ...

    class Slots(Base):
        __slots__ = ("x",)

        def f(self):
            return self.x

    @dataclasses.dataclass(frozen=True, slots=True)
    class Point:
        x: int

    slots = Slots()
    slots.x = 3
    colour, copy, point = carried([Colour.RED, slots, Point(4)], tmp_path)
    assert (colour.value, copy.f(), point.x) == ("red", 3, 4)


def test_a_data_module_travels_as_it_was_given(tmp_path: Path) -> None:
    data = TinyData(seed=4)
    packed = serialized(data=data)
    data.setup()
    assert not hasattr(sent(packed, tmp_path)[0].recipe.data(), "train")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays=st.lists(
        st_numpy.arrays(
            st.sampled_from(["?", "u1", "i8", "f2", "f4", "f8", "c8", "U3", "M8[s]"]),
            st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        ),
        max_size=6,
    ),
    fortran=st.booleans(),
)
def test_arrays_arrive_bit_for_bit(arrays, fortran: bool, tmp_path: Path) -> None:
    if fortran:
        arrays = [np.asfortranarray(array) for array in arrays]
    found = carried(arrays, tmp_path)
    for ours, theirs in zip(arrays, found, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float32", "complex64"])
@pytest.mark.parametrize("shape", [(LARGE,), (3, LARGE), (0,), (2, 3)])
def test_tensors_arrive_bit_for_bit(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = (torch.randn(shape) * 3).to(getattr(torch, dtype))
    found = carried(tensor, tmp_path)
    assert found.dtype == tensor.dtype
    assert torch.equal(found, tensor)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(LARGE, requires_grad=True),
        lambda: torch.nn.Parameter(torch.randn(LARGE)),
        lambda: torch.randn(LARGE, 2).T,
        lambda: torch.randn(LARGE, dtype=torch.complex64).conj(),
        lambda: torch.sparse_coo_tensor([[0, LARGE - 1]], [1.0, 2.0], check_invariants=True),
        lambda: torch.arange(LARGE).expand(3, LARGE),
    ],
    ids=["gradient", "parameter", "transposed", "conjugate", "sparse", "expanded"],
)
def test_tensors_that_are_no_plain_arrays_arrive_too(make, tmp_path: Path) -> None:
    tensor = make()
    found = carried(tensor, tmp_path)
    assert type(found) is type(tensor)
    assert found.requires_grad == tensor.requires_grad
    assert torch.equal(found.detach().to_dense().resolve_conj(), tensor.detach().to_dense().resolve_conj())


def test_what_a_tensor_carries_arrives_with_it(tmp_path: Path) -> None:
    tensor = torch.randn(LARGE)
    tensor.label = "race"
    assert carried(tensor, tmp_path).label == "race"


def test_large_arrays_and_tensors_are_mapped_and_not_in_the_pickle(tmp_path: Path) -> None:
    found = carried([torch.randn(LARGE), np.arange(LARGE)], tmp_path)
    assert (tmp_path / "object.pkl").stat().st_size < 20_000
    [mapped] = addresses(tmp_path / "buffers.bin")
    assert found[0].data_ptr() in mapped
    assert found[1].ctypes.data in mapped
    assert found[0].data_ptr() % 64 == found[1].ctypes.data % 64 == 0


def test_what_is_mapped_may_be_written_to_and_nobody_else_sees_it(tmp_path: Path) -> None:
    found = carried(torch.zeros(LARGE), tmp_path)
    before = (tmp_path / "buffers.bin").read_bytes()
    found += 1
    assert (tmp_path / "buffers.bin").read_bytes() == before
    assert unpack(tmp_path)[0].recipe.data().thing.sum() == 0


def test_what_is_mapped_outlives_its_file(tmp_path: Path) -> None:
    rows = TensorRows((torch.arange(LARGE),), pytree.tree_structure(0))
    data = TinyData()
    data.thing = np.arange(LARGE)
    found, mapped = sent(serialized(data=data), tmp_path, rows)
    for path in tmp_path.iterdir():
        path.unlink()
    assert found.recipe.data().thing[-1] == mapped.leaves[0][-1] == LARGE - 1


def test_training_rows_are_mapped(tmp_path: Path) -> None:
    rows = TensorRows((torch.randn(LARGE, 2), torch.arange(LARGE)), pytree.tree_structure((0, 1)))
    _, found = sent(serialized(), tmp_path, rows)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(rows.leaves, found.leaves, strict=True))
    mapped = addresses(tmp_path / "rows.pt")
    assert all(any(leaf.data_ptr() in bounds for bounds in mapped) for leaf in found.leaves)


@pytest.mark.parametrize("mode", ["r", "c", "r+", "w+"])
def test_a_mapped_file_of_the_users_is_not_copied(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    np.arange(2 * LARGE, dtype=np.int64).tofile(path)
    array = np.memmap(path, np.int64, mode, offset=16, shape=(LARGE, 1))
    if mode == "w+":
        array[:] = 77
        array.flush()
    (tmp_path / "serialized").mkdir()
    found = carried(array, tmp_path / "serialized")
    assert sum(file.stat().st_size for file in (tmp_path / "serialized").iterdir()) < 20_000
    assert (type(found), found.shape, found[4]) == (np.memmap, (LARGE, 1), array[4])
    assert found.flags.writeable == array.flags.writeable
    assert found[3] == (77 if mode == "w+" else 5)  # opened, not made anew


def test_a_slice_of_a_mapped_file_arrives_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    np.arange(LARGE).tofile(path)
    assert np.array_equal(carried(np.memmap(path, np.int64, "r")[5:9], tmp_path), [5, 6, 7, 8])


def test_no_arrays_and_empty_arrays(tmp_path: Path) -> None:
    assert carried(None, tmp_path) is None
    assert carried(np.zeros((0, 3)), tmp_path).shape == (0, 3)


@pytest.mark.parametrize("part", ["model", "data", "trainer", "score_fn", "groups", "eval_dataset"])
@pytest.mark.parametrize("kind", ["lock", "file"])
def test_what_cannot_be_pickled_is_named(part: str, kind: str, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        thing = threading.Lock() if kind == "lock" else file
        data = TinyData()
        if part == "data":
            data.thing = thing
        model = (lambda: TinyNet(thing)) if part == "model" else TinyNet
        recipe = {part: lambda *_: thing} if part in ("score_fn", "groups", "eval_dataset") else {}
        if part == "trainer":
            recipe = {"trainer": trainer_recipe(lambda: Trainer(default_root_dir=thing))}
        with pytest.raises(NotSentError, match=rf"executor: {part} cannot be sent .*Error: .*'ensemble'") as caught:
            pack(serialized(model=model, data=data, **recipe), tmp_path, rows=None)
    assert caught.value.exit_code == 2


class Vanishing:
    """Raises when it is rebuilt, as a class does whose module is not there."""

    def __reduce__(self):
        return pickle.loads, (b"cno_such_module\nNothing\n.",)


def test_what_cannot_be_rebuilt_says_so(tmp_path: Path) -> None:
    data = TinyData()
    data.thing = Vanishing()
    pack(serialized(data=data), tmp_path, rows=None)
    with pytest.raises(NotSentError, match=r"cannot be rebuilt in another process \(ModuleNotFoundError: No module"):
        unpack(tmp_path)


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    data = TinyData()
    data.thing = np.zeros(LARGE)
    with pytest.raises(NotSentError, match=rf"cannot be written to {tmp_path}/gone .*TMPDIR"):
        pack(serialized(data=data), tmp_path / "gone", rows=None)


def test_modules_are_imported_from_where_the_sender_imports_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", ["", "relative", "/absolute"])
    monkeypatch.chdir(tmp_path)
    assert import_path() == (str(tmp_path), str(tmp_path / "relative"), "/absolute")
    (tmp_path / "serialized").mkdir()
    pack(serialized(), tmp_path / "serialized", rows=None)
    monkeypatch.setattr(sys, "path", ["/before", "/absolute"])
    unpack(tmp_path / "serialized")
    assert sys.path == [str(tmp_path), str(tmp_path / "relative"), "/absolute", "/before"]


def test_only_the_dtypes_that_numpy_has_are_sent_as_arrays() -> None:
    for dtype in serialization._NUMPY_HAS:
        assert torch.from_numpy(torch.empty(1, dtype=dtype).numpy()).dtype is dtype
