"""What a plan says, and its JSON. This file knows nothing about how the numbers came about."""

from dataclasses import asdict, dataclass
from typing import Any

from evomerge.search.plan.disk import Disk
from evomerge.search.plan.measured import Measured, rates
from evomerge.search.plan.needs import Need
from evomerge.search.plan.total import Total, known
from evomerge.search.plan.verdict import Finding
from evomerge.search.plan.work import Step

PLAN_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """All that a plan says. `to_dict` is its JSON.

    Attributes:
        parameters: merged weights of one model.
        weight_bytes: of base and experts together.
        dimensions: of each stage of the search space.
        steps: the work.
        host, device: memory; device is None without a GPU.
        disk: what is written.
        measured: one candidate; None where nothing was measured.
        totals: the whole search: as configured first, then with racing the other way, then by other optimizers.
        findings: go or no-go, with reasons.
        notes: what a person should know about these numbers.
    """

    parameters: int
    weight_bytes: int
    dimensions: tuple[int, ...]
    steps: tuple[Step, ...]
    host: Need
    device: Need | None
    disk: Disk
    measured: Measured | None
    totals: tuple[Total, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def go(self) -> bool:
        """Whether nothing speaks against the search."""
        return all(finding.fits is not False for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        data = asdict(self)
        data["disk"]["run"] = self.disk.run
        for name, need in (("host", self.host), ("device", self.device)):
            if need is not None:
                data[name]["resident"]["peak"] = need.resident.peak
                data[name]["streamed"]["peak"] = need.streamed.peak
        for entry, one in zip(data["totals"], self.totals, strict=True):
            entry |= {"seconds": asdict(one.seconds), "cpu": one.cpu}
        if self.measured is not None:
            search = next(step.items for step in self.steps if step.phase == "candidates")
            data["measured"]["merge"] = asdict(self.measured.merge)
            data["measured"]["score"] = asdict(self.measured.score(known(search)))
            data["measured"]["rates"] = {
                task: {**asdict(line), "token": asdict(line.token)}
                for task, line in ((task, rates(points)) for task, points in self.measured.scoring.items())
            }
        return {"version": PLAN_VERSION, "go": self.go, **data}
