"""One of two gloo processes that update the metrics with their own batches; run by test_metrics.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[3]))

from lightning_memaudit.metrics import SubgroupAccuracy, SubgroupGap, WorstGroupAccuracy
from tests.unit.metrics.batches import NUM_GROUPS, batches

if __name__ == "__main__":
    rank, rendezvous, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    found: dict[str, object] = {}
    for kind in (SubgroupAccuracy, SubgroupGap, WorstGroupAccuracy):
        metric = kind(NUM_GROUPS)
        forward = [metric(*batch).tolist() for batch in batches()[rank::2]]
        found[kind.__name__] = {"together": metric.compute().tolist(), "batches": forward}
        # After a synchronised compute the process goes on with its own counts.
        found[kind.__name__]["own"] = metric.total.sum().item()
        lonely = kind(NUM_GROUPS)
        if rank == 0:
            lonely.update(*batches()[0])
        found[kind.__name__]["one rank"] = lonely.compute().tolist()
    (out / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()
