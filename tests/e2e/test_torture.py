"""A few places of each phase of torture.py, which has the law; `make torture` takes all of them."""
import os
import random

import pytest

from conftest import ROOT

os.environ.setdefault("TORTURE_APP", os.path.join(ROOT, "build/tests/server/starve_app"))
import torture  # noqa: E402

SEED = int(os.environ.get("TORTURE_SEED", "28"))
FEW = {"start": 40, "reload": 3, "drain": 2}


@pytest.mark.parametrize("phase", torture.PHASES)
def test_a_call_that_fails_is_told_and_harms_nobody_else(phase):
    tally = torture.Tally(turns=(False,))
    torture.PHASES[phase](tally, FEW.get(phase, 12 + random.Random(f"{SEED} {phase}").randrange(5)))
    assert not tally.breaches, tally.breaches
    assert tally.sites > 0, "places were found"
    met = sum(n for end, n in tally.ends.items() if "not met" not in end)
    assert met > 0 or tally.sites < 4, tally.ends  # some depend on the moment
