import logging
import random
import warnings

import datasets
import numpy as np
import torch

from evomerge.evaluation.quiet import undisturbed


def states():
    kind, keys, *rest = np.random.get_state()
    return random.getstate(), (kind, keys.tolist(), rest), torch.get_rng_state().tolist()


def test_random_states_are_put_back():
    before = states()
    with undisturbed():
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        torch.rand(3)
        assert states() != before
    assert states() == before


def test_random_states_are_put_back_after_an_error():
    before = states()
    try:
        with undisturbed():
            random.seed(1)
            raise KeyError
    except KeyError:
        pass
    assert states() == before


def test_within_itself_it_changes_nothing():
    before = states()
    with undisturbed():
        with undisturbed():
            torch.rand(3)
        assert logging.getLogger("lm_eval").level == logging.CRITICAL
        assert states() != before
    assert states() == before


def test_noise_is_off_inside_and_on_after(capsys, caplog):
    logger = logging.getLogger("lm_eval.somewhere")
    datasets.enable_progress_bars()  # another test may have run a command, which silences the libraries for good
    caplog.set_level(logging.WARNING, "lm_eval")
    with undisturbed():
        logger.warning("inside")
        warnings.warn("inside", stacklevel=1)
        assert datasets.are_progress_bars_disabled()
    logger.warning("after")
    assert not datasets.are_progress_bars_disabled()
    assert [record.message for record in caplog.records] == ["after"]
    assert "inside" not in capsys.readouterr().err
