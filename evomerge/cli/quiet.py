"""Keep the libraries off the terminal: their bars, warnings and logs are not for our users."""

import logging
import os
import warnings

LIBRARIES = ("transformers", "datasets", "lm_eval", "accelerate", "huggingface_hub", "hydra", "optuna", "cma")


def quiet() -> None:
    """Silence the libraries; imports some of them, so it is for commands that need them."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore")
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
