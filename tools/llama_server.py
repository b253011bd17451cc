"""The `llama-server` command, for hosts where llama.cpp comes as a Python wheel: its real C++ HTTP server, in this process.

It takes the options of llama.cpp's own `llama-server` that a DeploySpec's engine row passes, and refuses all others,
so that a service runs here only if it was asked for in words that the original understands. SIGTERM and SIGINT end it.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path


def arguments() -> argparse.ArgumentParser:
    """The options, spelled as llama.cpp spells them."""
    parser = argparse.ArgumentParser(prog="llama-server", description="llama.cpp's HTTP server", allow_abbrev=False)
    parser.add_argument("-m", "--model", required=True, type=Path, help="the .gguf file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    parser.add_argument("-a", "--alias", default="", help="the name under which the model is served")
    parser.add_argument("-c", "--ctx-size", type=int, default=0, help="context length, 0 = the model's own")
    parser.add_argument("-n", "--predict", "--n-predict", type=int, default=-1, help="tokens at most, -1 = no limit")
    parser.add_argument("-np", "--parallel", type=int, default=1, help="requests at a time")
    parser.add_argument("-t", "--threads", type=int, default=0, help="threads that compute, 0 = choose")
    parser.add_argument("-ngl", "--gpu-layers", "--n-gpu-layers", type=int, default=0, help="layers on a GPU")
    parser.add_argument("--api-key", default=os.environ.get("LLAMA_API_KEY", ""), help="refuse requests without it")
    parser.add_argument("--metrics", action="store_true", help="answer /metrics")
    parser.add_argument("--jinja", action="store_true", help="use the model's chat template (it always does)")
    parser.add_argument("--no-webui", action="store_true", help="no web page")
    parser.add_argument("--offline", action="store_true", help="fetch nothing (it never does)")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Serve until told to end."""
    asked = arguments().parse_args(words)
    if not asked.model.is_file():
        print(f"llama-server: {asked.model}: no such model file", file=sys.stderr)
        return 1
    # Blocked before the server's threads begin, so that they inherit it and the signal reaches sigwait alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    import xllamacpp  # type: ignore[import-untyped]  # no stubs; here because it loads 100 MB: not for --help

    params = xllamacpp.CommonParams()
    params.model.path = str(asked.model)
    params.hostnames = [asked.host]
    params.port = asked.port
    if asked.alias:
        params.model_alias = {asked.alias}
    params.ui = not asked.no_webui
    params.n_ctx = asked.ctx_size
    params.n_predict = asked.predict
    params.n_parallel = asked.parallel
    params.n_gpu_layers = asked.gpu_layers
    params.endpoint_metrics = asked.metrics
    if asked.threads > 0:
        params.cpuparams.n_threads = asked.threads
    if asked.api_key:
        params.api_keys = [asked.api_key]
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        print(f"llama-server: {error}", file=sys.stderr)
        return 1
    print(f"llama-server: {asked.model} at {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    print("llama-server: ends", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
