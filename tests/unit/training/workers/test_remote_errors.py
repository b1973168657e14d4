import pytest

from lightning_memaudit import exceptions
from lightning_memaudit.exceptions import MismatchError, TrainingError
from lightning_memaudit.training.workers.remote_errors import describe, rebuild
from lightning_memaudit.training.workers.serialization import NotSentError


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    with pytest.raises(type(error)) as info:
        raise error from cause
    return info.value


@pytest.mark.parametrize("kind", [*(getattr(exceptions, name) for name in exceptions.__all__), NotSentError])
def test_errors_of_the_package_arrive_as_they_left(kind) -> None:
    error = rebuild(describe(caught(kind("store='x' belongs to another plan"))))
    assert type(error) is kind
    assert str(error) == "store='x' belongs to another plan"
    assert "test_remote_errors.py" in error.__notes__[0]


def test_others_arrive_as_training_errors_with_their_name() -> None:
    error = rebuild(describe(caught(FileNotFoundError(2, "No such file", "data.bin"))))
    assert type(error) is TrainingError
    assert str(error).startswith("a worker process failed: FileNotFoundError: [Errno 2] No such file: 'data.bin'. What")
    assert "\n" not in str(error)


def test_an_error_without_a_message_is_its_name() -> None:
    assert str(rebuild(describe(caught(MemoryError())))).startswith("a worker process failed: MemoryError. What")


def test_the_cause_of_an_error_is_in_its_note() -> None:
    error = rebuild(describe(caught(MismatchError("other data"), caught(KeyError("race")))))
    assert "KeyError: 'race'" in error.__notes__[0]
