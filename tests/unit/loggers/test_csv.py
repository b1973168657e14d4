import csv
import io

from lightning.pytorch.loggers import CSVLogger

from lightning_memaudit.loggers import log_report, log_to_csv


def test_plain_files(report, payload, tmp_path) -> None:
    assert log_to_csv(payload, tmp_path / "out") == str(tmp_path / "out")
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert set(payload.files) | {"scalars.csv", "summary.txt", "histograms/memorization/histogram.csv"} == written
    rows = csv.DictReader(io.StringIO((tmp_path / "out/scalars.csv").read_text(), newline=""))
    assert {row["name"]: float(row["value"]) for row in rows} == payload.scalars | payload.group_scalars
    assert (tmp_path / "out/summary.txt").read_text() == report.summary()
    log_to_csv(payload, tmp_path / "out")


def test_csv_logger_goes_on_with_its_own_metrics(payload, tmp_path) -> None:
    logger = CSVLogger(tmp_path, name="run", version=0)
    logger.log_metrics({"loss": 0.5}, step=3)
    log_report(payload, logger)
    log_report(payload, logger)
    logger.log_metrics({"loss": 0.25}, step=4)
    logger.finalize("success")
    rows = list(csv.DictReader((tmp_path / "run/version_0/metrics.csv").read_text().splitlines()))
    assert [row["loss"] for row in rows] == ["0.5", "", "", "0.25"]
    for row in rows[1:3]:
        assert {name: float(value) for name, value in row.items() if name in payload.scalars} == payload.scalars
        assert row["step"] == "12"
    assert (tmp_path / "run/version_0/memaudit/report.html").exists()
