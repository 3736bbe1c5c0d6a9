"""Trains napkinXC's probabilistic label tree with its defaults, or predicts."""

import folder
import peer
from measure import Clock, documents_per_second, peak_rss_mb, report, single_row

from napkinxc.models import PLT


def train(args):
    with Clock() as clock:
        x, y = folder.load(args.data, "X.trn"), folder.load(args.data, "Y.trn")
        PLT(args.model, threads=args.threads, seed=0).fit(x, y)
    peer.report_training(args, clock)


def predict(args):
    x = folder.load(args.data, "X.tst")
    model = PLT(args.model, threads=args.threads)
    with Clock() as load:
        model.load()

    def batch():
        return model.predict_proba(x, top_k=args.top_k)

    labels = folder.load(args.data, "Y.trn").shape[1]
    folder.save(args.output, peer.scores(batch(), labels))
    rows = [x[i] for i in range(min(x.shape[0], 2000))]
    report(
        load_s=load.wall,
        **documents_per_second(batch, x.shape[0]),
        **single_row(lambda i: model.predict_proba(rows[i], top_k=args.top_k), len(rows)),
        peak_rss_mb=peak_rss_mb(),
    )


if __name__ == "__main__":
    peer.run(peer.arguments(__doc__), train, predict)
