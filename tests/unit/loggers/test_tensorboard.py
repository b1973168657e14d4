import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_memaudit.loggers import log_report, log_to_tensorboard


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), {"histograms": 0, "images": 0, "scalars": 0, "tensors": 0})
    return events.Reload()


@pytest.fixture(scope="module", params=["logger", "standalone"])
def events(request, payload, tmp_path_factory) -> EventAccumulator:
    folder = tmp_path_factory.mktemp("tb")
    if request.param == "standalone":
        assert log_to_tensorboard(payload, folder) == str(folder)
        return read(folder)
    logger = TensorBoardLogger(folder, name="run", version=0)
    logger.log_metrics({"loss": 0.5}, step=3)
    log_report(payload, logger)
    logger.log_metrics({"loss": 0.25}, step=4)
    logger.finalize("success")
    found = read(folder / "run/version_0")
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(3, 0.5), (4, 0.25)]
    return found


def test_event_files_hold_the_audit(events, payload, report) -> None:
    tags = events.Tags()
    scalars = payload.scalars | payload.group_scalars
    assert {name for name in tags["scalars"] if name.startswith("memaudit/")} == set(scalars)
    for name, value in scalars.items():
        (event,) = events.Scalars(name)
        assert event.step == 12
        assert event.value == pytest.approx(value, rel=1e-6)
    assert set(tags["images"]) == set(payload.figures)
    (picture,) = events.Images("memaudit/figures/memorization")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert picture.width > 300
    (histogram,) = events.Histograms("memaudit/memorization/histogram")
    stored = report.content["memorization"]["histogram"]
    assert histogram.histogram_value.bucket == stored["counts"]
    assert histogram.histogram_value.bucket_limit == stored["edges"][1:]
    text = {name: events.Tensors(f"memaudit/{name}/text_summary")[0].tensor_proto for name in ("summary", "report")}
    assert text["report"].string_val[0].decode() == report.to_markdown()
    assert report.summary().splitlines()[0] in text["summary"].string_val[0].decode()
