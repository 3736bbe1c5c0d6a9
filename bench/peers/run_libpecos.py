"""Trains libpecos XR-Linear with the defaults of its command line, or predicts with one of its weight layouts."""

import peer
from measure import Clock, documents_per_second, peak_rss_mb, report, single_row

import folder
from pecos.xmc.xlinear.model import XLinearModel
from pecos.xmc.xlinear.train import do_train, parse_arguments


def train(args):
    command = ["-x", f"{args.data}/X.trn.npz", "-y", f"{args.data}/Y.trn.npz", "-m", args.model]
    command += ["--threads", str(args.threads), "--verbose-level", "0", *args.set]
    settings = parse_arguments().parse_args(command)
    with Clock() as clock:
        do_train(settings)
    peer.report_training(args, clock)


def predict(args):
    x = folder.load(args.data, "X.tst")
    with Clock() as load:
        model = XLinearModel.load(args.model, is_predict_only=True, weight_matrix_type=args.layout)
    options = {"beam_size": args.beam, "only_topk": args.top_k, "threads": args.threads}
    folder.save(args.output, model.predict(x, **options))
    rows = [x[i] for i in range(min(x.shape[0], 2000))]
    report(
        load_s=load.wall,
        **documents_per_second(lambda: model.predict(x, **options), x.shape[0]),
        **single_row(lambda i: model.predict(rows[i], **options), len(rows)),
        peak_rss_mb=peak_rss_mb(),
    )


if __name__ == "__main__":
    parser = peer.arguments(__doc__)
    layouts = ["BINARY_SEARCH_CHUNKED", "HASH_CHUNKED", "CSC"]
    parser.add_argument("--layout", choices=layouts, default=layouts[0])
    peer.run(parser, train, predict)
