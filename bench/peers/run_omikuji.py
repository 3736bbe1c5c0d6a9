"""Trains omikuji with its defaults (Parabel-like balanced trees), or predicts.

Its Python interface predicts one row a call; the rows are made into its lists of pairs before the clock starts.
"""

import os

import folder
import peer
from measure import Clock, documents_per_second, peak_rss_mb, report, single_row

import omikuji


def train(args):
    settings = omikuji.Model.default_hyper_param()
    settings.n_trees = args.trees
    with Clock() as clock:
        model = omikuji.Model.train_on_data(f"{args.data}/trn.xmc.txt", settings, args.threads)
        os.makedirs(args.model, exist_ok=True)
        model.save(args.model)
    peer.report_training(args, clock)


def predict(args):
    x = folder.load(args.data, "X.tst")
    with Clock() as load:
        model = omikuji.Model.load(args.model)
    model.init_prediction_thread_pool(args.threads)
    rows = [list(zip(x[i].indices.tolist(), x[i].data.tolist())) for i in range(x.shape[0])]

    def one(i):
        return model.predict(rows[i], beam_size=args.beam, top_k=args.top_k)

    answers = []
    throughput = documents_per_second(lambda: answers.append([one(i) for i in range(len(rows))]), len(rows))
    labels = folder.load(args.data, "Y.trn").shape[1]
    folder.save(args.output, peer.scores(answers[0], labels))
    report(load_s=load.wall, **throughput, **single_row(one, len(rows)), peak_rss_mb=peak_rss_mb())


if __name__ == "__main__":
    parser = peer.arguments(__doc__)
    parser.add_argument("--trees", type=int, default=3)
    peer.run(parser, train, predict)
