"""Trains libpecos XR-Transformer on a data folder with the settings of an xmc TOML file, and measures it.

Usage: pecos_run.py DATA OUT --settings FILE.toml --encoder DIR [--steps N] [--threads 1] [--precision f32|bf16] ...

DATA is a folder as ../peers/make_features.py leaves it: X.trn.npz, X.tst.npz, Y.trn.npz, Y.tst.npz, raw/*_X.txt.
OUT receives the model and predictions.npz, ten labels a test row. The last line on stdout is one JSON object.

CPU seconds are those of all threads of this process and of the workers that libpecos forks to make batches, except
`step_cpu_s`: there the workers are left out, which is to the advantage of libpecos.
"""

import argparse
import json
import logging
import os
import resource
import statistics
import sys
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--settings", required=True, type=Path, help="the TOML file that xmc is trained with too")
    parser.add_argument("--encoder", required=True, help="folder of the encoder, or its name on a hub")
    parser.add_argument("--steps", type=int, help="steps of a level, in place of training.max_steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="bf16: encoder under autocast")
    parser.add_argument("--embed-rows", type=int, default=256, help="test rows to time the embedding with; 0: none")
    parser.add_argument("--single-rows", type=int, default=50, help="test rows to time one by one; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


args = arguments()
# Before torch and the kernels of libpecos are loaded: they read it once. Some products of libpecos set the number of
# threads of OpenMP to all processors, for torch too, and idle threads spin: on a busy machine that tripled the CPU
# seconds of a step. So waiting threads sleep here, and `time_levels` sets the number back before every step.
# (OMP_THREAD_LIMIT is no way out: with it torch computed NaN.)
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import numpy as np  # noqa: E402
import scipy.sparse as sp  # noqa: E402
import torch  # noqa: E402

import folder  # noqa: E402
import measure  # noqa: E402
from pecos.utils import torch_util  # noqa: E402
from pecos.xmc.xtransformer.matcher import TransformerMatcher  # noqa: E402
from pecos.xmc.xtransformer.model import XTransformer  # noqa: E402
from pecos.xmc.xtransformer.module import MLProblemWithText  # noqa: E402
from transformers import BertModel  # noqa: E402

WORKERS = 1  # in training; 0 kills libpecos 1.2.8 in the product of shortlist and tree


def cpu(own=False):
    """CPU seconds so far, of this process and, unless `own`, of its workers that have ended."""
    who = [resource.RUSAGE_SELF] if own else [resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN]
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who))


class Clock:
    """Wall and CPU seconds of a `with` block."""

    def __enter__(self):
        self.start = time.perf_counter(), cpu()
        return self

    def __exit__(self, *_):
        self.wall, self.cpu = time.perf_counter() - self.start[0], cpu() - self.start[1]


def use_bf16():
    """Lets the encoder, not the head, run under autocast. libpecos has no such option; it is what its user could do."""
    forward = BertModel.forward

    def autocast(*args, **kwargs):
        with torch.autocast("cpu", torch.bfloat16):
            out = forward(*args, **kwargs)
        out.pooler_output = out.pooler_output.float()
        return out

    BertModel.forward = autocast


def tree(settings, threads):
    return {
        "nr_splits": settings.get("branching", 16),
        "min_codes": settings.get("min_codes") or None,
        "max_leaf_size": settings.get("max_leaf_size", 100),
        "seed": 0,
        "threads": threads,
    }


def parameters(settings, args):
    """Our settings in the words of libpecos: parameters of training and of prediction."""
    training, matcher, ranker = settings["training"], settings["matcher"], settings["ranker"]
    steps = args.steps or training["max_steps"]
    train = {
        "preliminary_indexer_params": tree(settings["preliminary"], args.threads),
        "refined_indexer_params": tree(settings["cluster"], args.threads),
        "max_match_clusters": settings.get("max_match_clusters", 32768),
        "matcher_params_chain": {
            "model_shortcut": args.encoder,
            "negative_sampling": training["negatives"],
            "loss_function": training["loss"],
            "bootstrap_method": training["bootstrap"],
            "lr_schedule": training["schedule"],
            "batch_size": training["batch_size"],
            "batch_gen_workers": WORKERS,
            "max_steps": steps,
            "save_steps": steps,  # steps after the last save are thrown away
            "logging_steps": max(1, steps // 10),
            "learning_rate": training["lr"],
            "warmup_steps": training["warmup_steps"],
            "weight_decay": training["weight_decay"],
            "adam_epsilon": training["adam_epsilon"],
            "max_grad_norm": training["clip"],
            "use_gpu": False,
        },
        "ranker_params": {
            "rel_mode": ranker["relevance"],
            "rel_norm": ranker["relevance_norm"],
            "hlm_args": {
                "neg_mining_chain": ranker["negatives"],
                "model_chain": {
                    "threshold": ranker["threshold"],
                    "Cp": ranker["cost_positive"],
                    "Cn": ranker["cost_negative"],
                    "threads": args.threads,
                },
            },
        },
    }
    predict = {
        "matcher_params_chain": {
            "only_topk": matcher["top_k"],
            "post_processor": matcher["post_processor"],
            "ensemble_method": matcher["ensemble"],
            "truncate_length": settings["max_len"],
        },
        "ranker_params": {
            "hlm_args": {
                "model_chain": {"only_topk": ranker["beam_size"], "post_processor": ranker["post_processor"]}
            }
        },
    }
    return XTransformer.TrainParams.from_dict(train), XTransformer.PredParams.from_dict(predict)


def time_levels(levels, threads):
    """Lets every level add {steps, step_cpu_s, ...} to `levels`.

    The loop of libpecos calls `text_encoder.train()` at the start of each step, so from call to call is one step.
    """
    fine_tune, predict = TransformerMatcher.fine_tune_encoder, TransformerMatcher._predict

    def timed(matcher, *args, **kwargs):
        starts, train = [], matcher.text_encoder.train

        def start(*mode):
            torch.set_num_threads(threads)
            starts.append((time.perf_counter(), cpu(own=True)))
            return train(*mode)

        matcher.text_encoder.train = start
        with Clock() as clock:
            result = fine_tune(matcher, *args, **kwargs)
        del matcher.text_encoder.train
        walls, cpus = zip(*starts)
        levels.append(
            {
                "nodes": matcher.nr_labels,
                "steps": len(starts),  # one more than asked for
                "level_cpu_s": clock.cpu,
                "level_wall_s": clock.wall,
                # The first step warms up, and the last saves.
                "step_cpu_s": statistics.median(np.diff(cpus)[1:]) if len(starts) > 2 else None,
                "step_wall_s": statistics.median(np.diff(walls)[1:]) if len(starts) > 2 else None,
            }
        )
        print(json.dumps(levels[-1]), file=sys.stderr, flush=True)
        return result

    def timed_predict(*args, **kwargs):
        torch.set_num_threads(threads)
        with Clock() as clock:
            result = predict(*args, **kwargs)
        if levels and "embed_cpu_s" not in levels[-1]:
            levels[-1] |= {"embed_cpu_s": clock.cpu, "embed_wall_s": clock.wall}
        return result

    TransformerMatcher.fine_tune_encoder, TransformerMatcher._predict = timed, timed_predict


def tokens_per_row(model, texts, max_len):
    made = model.text_encoder.text_tokenizer(texts, truncation=True, max_length=max_len)
    return sum(map(len, made["input_ids"])) / len(texts)


def single_rows(model, texts, x, options):
    """p50 and p99 of one document at a time in a warm process; its features are ready, its tokens are not."""
    walls, cpus = [], []
    for i in range(3 + len(texts)):
        row = i % len(texts)
        with Clock() as clock:
            model.predict([texts[row]], X_feat=x[row], **options)
        walls.append(1e3 * clock.wall)
        cpus.append(1e3 * clock.cpu)
    wall, cpus = np.percentile(walls[3:], [50, 99]), np.percentile(cpus[3:], [50, 99])
    return {"wall_p50_ms": wall[0], "wall_p99_ms": wall[1], "cpu_p50_ms": cpus[0], "cpu_p99_ms": cpus[1]}


def prediction(model, texts, x, args, beam):
    """Answers all test rows, then embeds some and answers some one by one."""
    # Without workers, which an answer alone allows, it is at its fastest.
    options = {"batch_gen_workers": 0, "use_gpu": False}
    answer = options | beam | {"only_topk": 10, "threads": args.threads}
    with Clock() as clock:
        predicted = model.predict(texts, X_feat=x, batch_size=32, **answer)
    folder.save(args.out / "predictions.npz", sp.csr_matrix(predicted, dtype=np.float32))
    figures = {"predict_docs_per_cpu_s": len(texts) / clock.cpu}
    if args.embed_rows:
        rows = texts[: args.embed_rows]
        with Clock() as clock:
            model.encode(rows, batch_size=32, **options)
        figures["embed_docs_per_cpu_s"] = len(rows) / clock.cpu
    if args.single_rows:
        rows = texts[: args.single_rows]
        figures |= single_rows(model, rows, x, answer)
        forked = single_rows(model, rows, x, answer | {"batch_gen_workers": 1})
        figures |= {f"forked_{name}": value for name, value in forked.items()}
    return figures


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    torch.set_num_threads(args.threads)
    settings = tomllib.loads(args.settings.read_text())
    train_params, pred_params = parameters(settings, args)
    texts = {part: folder.lines(args.data / f"raw/{part}_X.txt") for part in ("trn", "tst")}
    x = {part: folder.load(args.data, f"X.{part}") for part in ("trn", "tst")}
    y = folder.load(args.data, "Y.trn")
    levels = []
    time_levels(levels, args.threads)
    torch_util.set_seed(args.seed)
    beam = {"beam_size": settings["ranker"]["beam_size"]}
    if args.precision == "bf16":
        use_bf16()
    with Clock() as training:
        problem = MLProblemWithText(texts["trn"], y, X_feat=x["trn"])
        model = XTransformer.train(
            problem, train_params=train_params, pred_params=pred_params, threads=args.threads, **beam
        )
        model.save(str(args.out / "model"))
    figures = {
        "train_cpu_s": training.cpu,
        "train_wall_s": training.wall,
        "train_peak_rss_mb": measure.peak_rss_mb(),
        "model_mb": measure.disk_mb(args.out / "model"),
        "tokens_per_row": tokens_per_row(model, texts["trn"][:2000], settings["max_len"]),
        "levels": levels,
    }
    figures |= prediction(model, texts["tst"], x["tst"], args, beam)
    figures |= {"steps": train_params.matcher_params_chain.max_steps, "threads": args.threads}
    measure.report(**figures, precision=args.precision, torch=torch.__version__)


if __name__ == "__main__":
    args.out.mkdir(parents=True, exist_ok=True)
    main()
