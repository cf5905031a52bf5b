"""`python -m dp_trainer train request.json result.json`, in the folder that holds the files.

Exit status: 0 with a result, 2 for a wrong command line, 3 for a refusal (one line on stderr says
why), 1 when something broke. Without status 0 there is no result file.
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

from dp_trainer.contract import (
    PROBE_PROBABILITIES_NAME,
    WEIGHTS_NAME,
    TrainingRequest,
    TrainingResult,
)
from dp_trainer.strict import ContractError, plain_name

EXIT_BROKEN = 1
EXIT_REFUSED = 3


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="dp_trainer")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("train", help="train one model with differential privacy")
    command.add_argument("request", help="file to read, in the working folder")
    command.add_argument("result", help="file to write, in the working folder, last of all")
    options = parser.parse_args(arguments)
    try:
        _train(request_name=options.request, result_name=options.result)
    except ContractError as refusal:
        print(f"dp_trainer: {refusal}", file=sys.stderr)
        return EXIT_REFUSED
    except Exception as error:
        print(f"dp_trainer: {_without_values(error)}; no result was written.", file=sys.stderr)
        return EXIT_BROKEN
    return 0


def _train(*, request_name: str, result_name: str) -> None:
    # NumPy brings a linear algebra library that makes a thread per core at import. TensorFlow,
    # which does the work here, has threads of its own.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imported step by step: a refusal should not wait for TensorFlow, which takes 5 s.
    from dp_trainer import files

    plain_name("The request's name", request_name)
    plain_name("The result's name", result_name)
    request = TrainingRequest.from_json(files.read_request(request_name))
    for name in (result_name, WEIGHTS_NAME, PROBE_PROBABILITIES_NAME):
        files.require_new(name)
    arrays = files.load_arrays(request)

    from safetensors.numpy import save

    from dp_trainer.runtime import VERSIONS, limit_threads
    from dp_trainer.train import train

    limit_threads(request.threads)
    model = train(request, arrays, report=lambda line: print(line, flush=True))
    files.write_whole(WEIGHTS_NAME, save(model.weights))
    files.write_array(PROBE_PROBABILITIES_NAME, model.probe_probabilities)
    result = TrainingResult(
        weights=WEIGHTS_NAME,
        probe_probabilities=PROBE_PROBABILITIES_NAME,
        steps=request.dp.steps,
        noise_multiplier=request.dp.noise_multiplier,
        l2_clip_norm=request.dp.l2_clip_norm,
        expected_batch_size=request.dp.expected_batch_size,
        rows=arrays.rows,
        versions=VERSIONS,
    )
    files.write_whole(result_name, result.to_json().encode())


def _without_values(error: Exception) -> str:
    """Say what broke and where, without the exception's own words.

    TensorFlow's messages quote values, and logs are outside the privacy budget. The operating
    system's do not ("No space left on device").
    """
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent == Path(__file__).parent
    ]
    reason = f" ({error.strerror})" if isinstance(error, OSError) else ""
    place = f"{ours[-1].name}, {Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"broke with {type(error).__name__}{reason} in {place}"


if __name__ == "__main__":
    sys.exit(main())
